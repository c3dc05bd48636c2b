package transport_test

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
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"

	"google.golang.org/grpc"
)

// network is what members are connected by.
type network interface {
	listen(tb testing.TB, addr string) net.Listener
	dial(ctx context.Context, addr string) (net.Conn, error)
}

// member is a mesh behind a node door.
type member struct {
	*transport.Mesh
	node     membership.Node
	registry *prometheus.Registry
	stop     func() // and wait
}

func node(name string, life int) membership.Node {
	return membership.Node{Name: name, ID: fmt.Sprint(life), Addr: name + ":7070"}
}

// start starts a member; at the end of the test it is stopped.
func start(tb testing.TB, n network, self membership.Node, h transport.Handler, change ...func(*transport.Config)) *member {
	tb.Helper()
	m := &member{node: self, registry: prometheus.NewRegistry()}
	door := n.listen(tb, self.Addr)
	m.node.Addr = addrOf(door, self)
	conns := rpc.NewPool(n.dial)
	cfg := transport.Config{
		Self: self.Member(), Conns: conns, Handler: h, Registerer: m.registry,
		Logger: slog.New(slog.NewTextHandler(tb.Output(), nil)).With("self", self.Member()),
	}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	if m.Mesh, err = transport.New(cfg); err != nil {
		tb.Fatal(err)
	}
	server := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, door)
	brokerv1.RegisterBrokerServiceServer(server, service{mesh: m.Mesh})
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := errors.Join(run.All(ctx, server, m.Mesh), conns.Close()); err != nil {
			tb.Errorf("%s: %v", self.Member(), err)
		}
	}()
	m.stop = func() {
		cancel(run.ErrDraining)
		<-done
	}
	tb.Cleanup(m.stop)
	return m
}

func addrOf(l net.Listener, self membership.Node) string {
	if l.Addr().Network() == "tcp" {
		return l.Addr().String()
	}
	return self.Addr
}

type service struct {
	brokerv1.UnimplementedBrokerServiceServer
	mesh *transport.Mesh
}

func (s service) Replicate(call grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse]) error {
	return s.mesh.Accept(call)
}

// memory is a network in memory, with faults.
type memory struct {
	mu    sync.Mutex
	doors map[string]*bufconn.Listener
	links []*link
}

func newMemory() *memory { return &memory{doors: map[string]*bufconn.Listener{}} }

func (n *memory) listen(_ testing.TB, addr string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.doors[addr] = bufconn.Listen(1 << 20)
	return n.doors[addr]
}

func (n *memory) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	door := n.doors[addr]
	n.mu.Unlock()
	if door == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	conn, err := door.DialContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	l := &link{Conn: conn, addr: addr}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = append(n.links, l)
	return l, nil
}

// crash makes a door refuse, and cuts what is connected to it.
func (n *memory) crash(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.doors, addr)
	n.eachLocked(addr, func(l *link) { _ = l.Close() })
}

// cut cuts what is connected to a door.
func (n *memory) cut(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.eachLocked(addr, func(l *link) { _ = l.Close() })
}

// swallow lets nothing through any more on what is connected to a door, while
// both ends can write.
func (n *memory) swallow(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.eachLocked(addr, func(l *link) { l.swallow() })
}

func (n *memory) eachLocked(addr string, do func(*link)) {
	for _, l := range n.links {
		if l.addr == addr {
			do(l)
		}
	}
}

// link is a connection from the side that dialled.
type link struct {
	net.Conn
	addr string

	mu        sync.Mutex
	swallowed bool
}

func (l *link) swallow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swallowed = true
}

func (l *link) gone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.swallowed
}

func (l *link) Write(b []byte) (int, error) {
	if l.gone() {
		return len(b), nil
	}
	return l.Conn.Write(b)
}

func (l *link) Read(b []byte) (int, error) {
	for {
		n, err := l.Conn.Read(b)
		if err != nil || !l.gone() {
			return n, err
		}
	}
}

// loopback is TCP.
type loopback struct{}

func (loopback) listen(tb testing.TB, _ string) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func (loopback) dial(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// handler is functions; nil: nothing happens.
type handler struct {
	up, down func(member string)
	receive  func(member string, slot shard.Slot, m replica.Message)
	heard    func(member string, sent time.Time)
}

func (h handler) Up(member string) {
	if h.up != nil {
		h.up(member)
	}
}

func (h handler) Down(member string) {
	if h.down != nil {
		h.down(member)
	}
}

func (h handler) Receive(member string, slot shard.Slot, m replica.Message) {
	if h.receive != nil {
		h.receive(member, slot, m)
	}
}

func (h handler) Heard(member string, sent time.Time) {
	if h.heard != nil {
		h.heard(member, sent)
	}
}
