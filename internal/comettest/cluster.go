package comettest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/comet-push/comet/cmd/comet/wire"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/telemetry"
)

// Options say what a cluster consists of.
type Options struct {
	Edges, Brokers, Presence int
	// Pace is how often brokers give a sign of life; 0: 1 s.
	Pace time.Duration
	// Configure changes the configuration of a process; may be nil.
	Configure func(name string, cfg *config.Config)
}

// Cluster is a running cluster. Hosts are named edge-0, broker-0, presence-0
// and so on, and listen where comet serve does by default.
type Cluster struct {
	Net   *Network
	Store *memory.Store

	t       testing.TB
	options Options
	nodes   []*Node // in the order of their start
	dead    []chan error
	audit   *Audit // nil: nobody watches
}

// Node is one process of a cluster, over restarts.
type Node struct {
	Name   string
	Target string
	// Process, Directory and Metrics are those of the present life.
	Process   *wire.Process
	Directory *memory.Directory
	Metrics   wire.Metrics

	stop  context.CancelCauseFunc
	done  chan error
	lives int // how often it was started
}

// errCrash is the cause that a crashed process sees.
var errCrash = errors.New("crashed")

// New starts a cluster and waits until it is ready. It has to be called in a
// bubble; the cluster stops with the test.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{Net: NewNetwork(), Store: memory.NewStore(2 * time.Second), t: t, options: o}
	t.Cleanup(c.stopAll)
	for _, group := range []struct {
		target string
		n      int
	}{{config.Broker, o.Brokers}, {config.Presence, o.Presence}, {config.Edge, o.Edges}} {
		for i := range group.n {
			n := &Node{Name: fmt.Sprintf("%s-%d", group.target, i), Target: group.target}
			c.nodes = append(c.nodes, n)
			c.Start(n.Name)
		}
	}
	c.Ready(time.Minute)
	c.Held(time.Minute)
	return c
}

// Node returns a node by name.
func (c *Cluster) Node(name string) *Node {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	c.t.Fatalf("no node %s", name)
	return nil
}

// Start starts a node that does not run, with nothing left of its past.
func (c *Cluster) Start(name string) {
	c.t.Helper()
	n := c.Node(name)
	cfg := config.Serve()
	cfg.Target, cfg.Node.Name = n.Target, name
	cfg.Edge.Listen, cfg.GRPC.Listen, cfg.Internal.Listen, cfg.Node.Listen =
		name+":8080", name+":9090", name+":8081", name+":7070"
	for _, pattern := range []string{"/service/**", "/**"} {
		cfg.Namespaces = append(cfg.Namespaces, namespace.Options{
			Pattern: pattern, Subscribe: namespace.Anyone, Publish: namespace.Anyone,
		})
	}
	if c.options.Configure != nil {
		c.options.Configure(name, &cfg)
	}
	n.Directory, n.Metrics = c.Store.Directory(), telemetry.Registry("test")
	logger := slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	process, err := wire.New(cfg, wire.Env{
		Listen: c.Net.Listen, Dial: c.Net.Dial(name), Directory: n.Directory, Metrics: n.Metrics, Pace: c.options.Pace,
		Logger: logger.With(slog.String("on", name)),
	})
	if err != nil {
		c.t.Fatalf("start %s: %v", name, err)
	}
	ctx, stop := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	n.Process, n.stop, n.done = process, stop, done
	n.lives++
	go func() { done <- process.Run(ctx) }()
}

// Stop drains a node and waits for its end.
func (c *Cluster) Stop(name string) {
	c.t.Helper()
	n := c.Node(name)
	if n.stop == nil {
		return
	}
	n.stop(run.ErrDraining)
	helped, err := c.leave(n)
	if err != nil {
		c.t.Errorf("stop %s: %v", name, err)
	}
	c.audit.left(n.Process.Node().Member(), helped)
	n.stop = nil
}

// Restart stops a node, starts it again, and waits until it is ready.
func (c *Cluster) Restart(name string) {
	c.t.Helper()
	c.Stop(name)
	c.Start(name)
	c.Ready(time.Minute)
}

// Crash ends a node from one moment to the next: no goodbye to anybody.
func (c *Cluster) Crash(name string) {
	c.t.Helper()
	n := c.Node(name)
	c.Net.Crash(name)
	c.audit.died(n.Process.Node().Member())
	n.Directory.Kill()
	n.stop(errCrash)
	c.dead = append(c.dead, n.done)
	n.stop = nil
}

// Pause stops a node, as SIGSTOP does, as far as that can be had in a bubble:
// nothing reaches it or leaves it, its lease runs out, and of its goroutines
// those stand still that ask the directory anything, as a broker does before
// every tick. Its other timers go on.
func (c *Cluster) Pause(name string, paused bool) {
	c.t.Helper()
	c.Net.Pause(name, paused)
	c.Node(name).Directory.Freeze(paused)
}

// Runs reports whether a node has been started and not ended since.
func (c *Cluster) Runs(name string) bool { return c.Node(name).stop != nil }

// Lives is how often a node has been started.
func (c *Cluster) Lives(name string) int { return c.Node(name).lives }

// Calm ends every fault but those of processes that do not run.
func (c *Cluster) Calm() {
	c.t.Helper()
	c.Net.Calm()
	c.Store.Disconnect(false)
	for _, n := range c.nodes {
		n.Directory.Freeze(false)
		n.Directory.Slow(0)
		n.Directory.Disconnect(false)
	}
}

// Ready waits until every running node says that it is ready.
func (c *Cluster) Ready(within time.Duration) {
	c.t.Helper()
	deadline := time.Now().Add(within)
	for {
		missing := c.missing()
		if missing == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not ready after %v: %v", within, missing)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (c *Cluster) missing() error {
	for _, n := range c.nodes {
		if n.stop == nil {
			continue
		}
		select {
		case err := <-n.done:
			n.done <- err
			return fmt.Errorf("%s ended: %w", n.Name, err)
		default:
		}
		for part, err := range n.Process.Ready() {
			if err != nil {
				return fmt.Errorf("%s: %s: %w", n.Name, part, err)
			}
		}
	}
	return nil
}

// Balanced waits until every slot has all its copies and no broker leads many
// more than another.
func (c *Cluster) Balanced(within time.Duration) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for view := range c.Store.Directory().Watch(ctx) {
		brokers := view.With(membership.Broker)
		least, most := shard.Slots, 0
		for _, b := range brokers {
			owned := len(view.Table.Owned(b.Member()))
			least, most = min(least, owned), max(most, owned)
		}
		if complete(view.Table) && len(brokers) == c.options.Brokers && most-least <= 1 {
			return
		}
	}
	c.t.Fatalf("slots are not balanced after %v", within)
}

// complete reports whether of every slot those hold a copy that should.
func complete(t *shard.Table) bool {
	for n := range shard.Slot(shard.Slots) {
		row := t.Row(n)
		is, should := slices.Sorted(slices.Values(row.InSync)), slices.Sorted(slices.Values(row.Replicas))
		if len(is) == 0 || row.Primary != row.Replicas[0] || !slices.Equal(is, should) {
			return false
		}
	}
	return true
}

func (c *Cluster) stopAll() {
	for _, n := range slices.Backward(c.nodes) {
		c.Stop(n.Name)
	}
	for _, done := range c.dead {
		<-done // an error is expected: its doors were torn off
	}
}

// HTTP returns a client that runs on a host. URLs name nodes and ports:
// http://edge-0:8080/.
func (c *Cluster) HTTP(host string) *http.Client {
	c.t.Helper()
	dial := c.Net.Dial(host)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) }, MaxIdleConnsPerHost: 8}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 5 * time.Minute}
}

func (c *Cluster) edges() (names []string) {
	for _, n := range c.nodes {
		if n.Target == config.Edge {
			names = append(names, n.Name)
		}
	}
	return names
}

// Backend returns the gRPC clients that a backend on a host has for the
// brokers, in their order.
func (c *Cluster) Backend(host string) []pubsubv1.PubSubServiceClient {
	c.t.Helper()
	pool := rpc.NewPool(c.Net.Dial(host))
	c.t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			c.t.Error(err)
		}
	})
	var clients []pubsubv1.PubSubServiceClient
	for _, n := range c.nodes {
		if n.Target != config.Broker {
			continue
		}
		conn, err := pool.Conn(n.Name + ":9090")
		if err != nil {
			c.t.Fatal(err)
		}
		clients = append(clients, pubsubv1.NewPubSubServiceClient(conn))
	}
	return clients
}
