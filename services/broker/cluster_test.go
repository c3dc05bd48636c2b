package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/test/bufconn"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker"
)

// cluster is some brokers over memory, to be used in a bubble.
type cluster struct {
	t     testing.TB
	store *memory.Store
	watch *memory.Directory
	net   *network
	pool  *rpc.Pool // of the test itself

	namespaces []namespace.Options
	config     broker.Config
	starts     int
}

func newCluster(tb testing.TB) *cluster {
	tb.Helper()
	c := &cluster{t: tb, store: memory.NewStore(0), net: &network{doors: map[string]*bufconn.Listener{}}}
	c.watch = c.store.Directory()
	c.config.AnyPattern = true
	c.pool = rpc.NewPool(c.net.dial)
	tb.Cleanup(func() { _ = c.pool.Close() })
	return c
}

// member is one broker process.
type member struct {
	*cluster
	name     string
	node     membership.Node
	dir      *memory.Directory
	service  *broker.Service
	registry *prometheus.Registry
	pubsub   pubsubv1.PubSubServiceClient
	broker   brokerv1.BrokerServiceClient

	doors   [2]string
	updates chan membership.Node
	cancel  context.CancelCauseFunc
	done    chan struct{}
}

// start starts a broker and waits until it is ready.
func (c *cluster) start(name string) *member {
	c.t.Helper()
	m := c.launch(name)
	c.eventually(10*time.Second, m.service.Ready)
	return m
}

// launch starts a broker; at the end of the test it is drained.
func (c *cluster) launch(name string) *member {
	c.t.Helper()
	c.starts++
	m := &member{
		cluster: c, name: name, dir: c.store.Directory(), registry: prometheus.NewRegistry(),
		doors: [2]string{name + ":7070", name + ":9090"}, updates: make(chan membership.Node), done: make(chan struct{}),
	}
	m.node = membership.Node{
		Name: name, ID: fmt.Sprintf("%032x", c.starts), Roles: []membership.Role{membership.Broker}, Addr: m.doors[0],
	}
	set, err := namespace.NewSet(c.namespaces, namespace.Open())
	if err != nil {
		c.t.Fatal(err)
	}
	conns := rpc.NewPool(c.net.dial)
	cfg := c.config
	cfg.Dial = c.net.dial
	m.service, err = broker.New(cfg, broker.Deps{
		Node: m.node, Directory: m.dir, Conns: conns, Namespaces: set, Registerer: m.registry,
		Logger: slog.New(slog.NewTextHandler(c.t.Output(), nil)).With("broker", name),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	private := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, c.net.listen(m.doors[0]))
	public := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, c.net.listen(m.doors[1]))
	m.service.RegisterNode(private)
	m.service.RegisterPublic(public)
	ctx, cancel := context.WithCancelCause(context.Background())
	m.cancel = cancel
	go func() {
		defer close(m.done)
		err := run.All(ctx,
			run.Func(func(ctx context.Context) error { return m.dir.Register(ctx, m.node, m.updates) }),
			private, m.service, public)
		if err := errors.Join(err, conns.Close()); err != nil && !errors.Is(context.Cause(ctx), errKilled) {
			c.t.Errorf("%s ended: %v", name, err)
		}
	}()
	c.t.Cleanup(m.drain)
	m.pubsub = pubsubv1.NewPubSubServiceClient(c.conn(m.doors[1]))
	m.broker = brokerv1.NewBrokerServiceClient(c.conn(m.doors[0]))
	return m
}

// drain ends a broker as SIGTERM does.
func (m *member) drain() {
	select {
	case <-m.done:
		return
	default:
	}
	leaving := m.node
	leaving.Draining = true
	select {
	case m.updates <- leaving:
	case <-m.done:
	}
	m.cancel(run.ErrDraining)
	<-m.done
	m.net.close(m.doors[:]...)
}

var errKilled = errors.New("killed")

// kill ends a broker as kill -9 does: to others it is gone at once.
func (m *member) kill() {
	m.dir.Kill()
	m.net.close(m.doors[:]...)
	m.cancel(errKilled)
}

// owned is how many slots the table gives to the member.
func (m *member) owned() int {
	return len(m.view().Table.Owned(m.node.Member()))
}

// view is what the directory shows to the cluster.
func (c *cluster) view() membership.View {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return <-c.watch.Watch(ctx)
}

// settled waits until all slots are served by announced members, as evenly as
// can be.
func (c *cluster) settled(members ...*member) {
	c.t.Helper()
	c.eventually(time.Minute, func() error {
		for _, m := range members {
			if n := m.owned(); n < shard.Slots/len(members) || n > shard.Slots/len(members)+1 {
				return fmt.Errorf("%s owns %d slots", m.name, n)
			}
		}
		return nil
	})
}

// eventually waits until something is so.
func (c *cluster) eventually(within time.Duration, ok func() error) {
	c.t.Helper()
	var err error
	for range within / (10 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("not within %v: %v", within, err)
}

// network connects doors by name.
type network struct {
	mu    sync.Mutex
	doors map[string]*bufconn.Listener
	links []net.Conn
}

func (n *network) listen(addr string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := bufconn.Listen(1 << 20)
	n.doors[addr] = l
	return l
}

// close closes doors and cuts what is connected to them.
func (n *network) close(addrs ...string) {
	n.mu.Lock()
	for _, a := range addrs {
		if l := n.doors[a]; l != nil {
			_ = l.Close()
		}
	}
	n.mu.Unlock()
	n.cut(addrs...)
}

// cut makes doors refuse, and cuts what is connected to them.
func (n *network) cut(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range addrs {
		delete(n.doors, a)
	}
	kept := n.links[:0]
	for _, l := range n.links {
		if n.doors[l.(link).to] == nil {
			_ = l.Close()
			continue
		}
		kept = append(kept, l)
	}
	n.links = kept
}

type link struct {
	net.Conn
	to string
}

func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.doors[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	conn, err := l.DialContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = append(n.links, link{conn, addr})
	return conn, nil
}
