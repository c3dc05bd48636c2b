package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/comettest"
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
	net   *comettest.Network
	pool  *rpc.Pool // of the test itself

	namespaces []namespace.Options
	config     broker.Config
	disks      map[string]*vfs.MemFS // by broker; nil: there are none
	starts     int
	members    []*member
}

func newCluster(tb testing.TB) *cluster {
	tb.Helper()
	c := &cluster{t: tb, store: memory.NewStore(0), net: comettest.NewNetwork()}
	c.watch = c.store.Directory()
	c.config.AnyPattern, c.config.Replicas = true, 1
	c.pool = rpc.NewPool(c.net.Dial("test"))
	tb.Cleanup(func() { _ = c.pool.Close() })
	return c
}

// member is one broker process.
type member struct {
	*cluster
	name         string
	node         membership.Node
	announcement *membership.Announcement
	dir          *memory.Directory
	service      *broker.Service
	disk         *broker.Disk // or nil
	registry     *prometheus.Registry
	pubsub       pubsubv1.PubSubServiceClient
	broker       brokerv1.BrokerServiceClient
	admin        adminv1.AdminServiceClient

	doors  [2]string
	cancel context.CancelCauseFunc
	done   chan struct{}
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
		doors: [2]string{name + ":7070", name + ":9090"}, done: make(chan struct{}),
	}
	m.node = membership.Node{
		Name: name, ID: fmt.Sprintf("%032x", c.starts), Roles: []membership.Role{membership.Broker}, Addr: m.doors[0],
	}
	m.open()
	m.announcement = membership.NewAnnouncement(m.node)
	set, err := namespace.NewSet(c.namespaces, namespace.Open())
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := c.config
	cfg.Dial = c.net.Dial(name)
	conns := rpc.NewPool(cfg.Dial)
	m.service, err = broker.New(cfg, broker.Deps{
		Node: m.node, Announcement: m.announcement, Disk: m.disk, Directory: m.dir,
		Conns: conns, Namespaces: set, Registerer: m.registry,
		Logger: slog.New(slog.NewTextHandler(c.t.Output(), nil)).With("broker", name),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	private := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, c.listen(m.doors[0]))
	public := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, c.listen(m.doors[1]))
	m.service.RegisterNode(private)
	m.service.RegisterPublic(public)
	ctx, cancel := context.WithCancelCause(context.Background())
	m.cancel = cancel
	go func() {
		defer close(m.done)
		err := run.All(ctx,
			run.Func(func(ctx context.Context) error {
				select {
				case <-m.service.Loaded():
				case <-ctx.Done():
					return nil
				}
				return m.dir.Register(ctx, m.node, m.announcement.Updates())
			}),
			private, m.service, public)
		if err := errors.Join(err, conns.Close()); err != nil && !errors.Is(context.Cause(ctx), errKilled) {
			c.t.Errorf("%s ended: %v", name, err)
		}
	}()
	c.t.Cleanup(m.drain)
	m.pubsub = pubsubv1.NewPubSubServiceClient(c.conn(m.doors[1]))
	m.admin = adminv1.NewAdminServiceClient(c.conn(m.doors[1]))
	c.members = append(c.members, m)
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
	m.announcement.Change(func(n *membership.Node) { n.Draining = true })
	m.cancel(run.ErrDraining)
	<-m.done
}

var errKilled = errors.New("killed")

// kill ends a broker as a crash of its machine does: to others it is gone at
// once, and what it did not sync is lost.
func (m *member) kill() {
	if m.disk != nil {
		m.disks[m.name] = m.disks[m.name].CrashClone(vfs.CrashCloneCfg{})
	}
	m.dir.Kill()
	m.net.Crash(m.name)
	m.cancel(errKilled)
}

func (c *cluster) listen(addr string) net.Listener {
	c.t.Helper()
	l, err := c.net.Listen(addr)
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// delay makes everything between brokers, and to them, take so long.
func (c *cluster) delay(d time.Duration, members ...*member) {
	for i, m := range members {
		c.net.Delay("test", m.name, d)
		for _, other := range members[:i] {
			c.net.Delay(other.name, m.name, d)
		}
	}
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

// settled waits until all slots are led by these members, as evenly as can be,
// and have all their copies.
func (c *cluster) settled(members ...*member) {
	c.t.Helper()
	c.eventually(time.Minute, func() error {
		for _, m := range members {
			if n := m.owned(); n < shard.Slots/len(members) || n > shard.Slots/len(members)+1 {
				return fmt.Errorf("%s owns %d slots", m.name, n)
			}
		}
		table := c.view().Table
		for n := range shard.Slot(shard.Slots) {
			row := table.Row(n)
			if want := min(c.config.Replicas, len(members)); len(row.InSync) != want || len(row.Replicas) != want {
				return fmt.Errorf("slot %d is %+v", n, row)
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
