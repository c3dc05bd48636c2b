// Package wire builds a process out of its configuration, top to bottom: the
// whole object graph is here and nowhere else.
//
//  1. New opens the doors, so that a busy port or a bad setting is an error at
//     once; it serves nothing. A Process that New returned has to be Run.
//  2. A node is announced to others only while its node door is open.
//  3. A drain says so to the other nodes first, then stops the parts one by
//     one, from the browsers inward; the internal door, with metrics and
//     health, is open to the end. It takes the drain timeout at most.
package wire

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/etcd"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/membership/peers"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/telemetry"
	"github.com/comet-push/comet/services/broker"
)

// Env is what a process finds around it. The zero Env is the real world.
type Env struct {
	// Listen opens a door; nil: TCP.
	Listen func(addr string) (net.Listener, error)
	// Dial connects to another node, or to etcd; nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Directory stands in for the configured one.
	Directory membership.Directory
	// Logger gets logs; nil: none.
	Logger *slog.Logger
	// Metrics takes and shows metrics; nil: a new registry.
	Metrics Metrics
	// Version is what was built.
	Version string
	// Pace is how often brokers tell edges that they live, and look for what is
	// too old. 0: 1 s. It is for tests of long times; all nodes have the same.
	Pace time.Duration
}

// Metrics is a registry.
type Metrics interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Process is one Comet process.
type Process struct {
	cfg          config.Config
	logger       *slog.Logger
	node         membership.Node
	announcement *membership.Announcement
	services     map[string]service
	parts        []run.Component // in the order in which they depend on each other
	conns        []*rpc.Pool
	listeners    []net.Listener
	addrs        Addrs
	disk         *broker.Disk    // nil: none
	waits        <-chan struct{} // closed when the node may be announced; nil: it may
	draining     atomic.Bool
}

// Addrs are the addresses of a process's doors; empty: not open.
type Addrs struct{ Edge, GRPC, Internal, Node string }

// service is one of the three.
type service interface {
	Ready() error
	Run(ctx context.Context) error
}

// New builds a process and opens its doors.
func New(cfg config.Config, env Env) (*Process, error) {
	env = env.withDefaults()
	p := &Process{cfg: cfg, logger: env.Logger, services: map[string]service{}}
	if err := p.build(env); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (e Env) withDefaults() Env {
	if e.Listen == nil {
		e.Listen = func(addr string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		}
	}
	if e.Dial == nil {
		e.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", addr)
		}
	}
	if e.Logger == nil {
		e.Logger = slog.New(slog.DiscardHandler)
	}
	if e.Metrics == nil {
		e.Metrics = telemetry.Registry(e.Version)
	}
	return e
}

// build makes the parts, in the order in which they will start.
func (p *Process) build(env Env) error {
	fallback := namespace.Closed()
	if p.cfg.Dev {
		fallback = namespace.Open()
	}
	namespaces, err := namespace.NewSet(p.cfg.Namespaces, fallback)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	targets, err := targetsOf(p.cfg.Target)
	if err != nil {
		return err
	}

	// The internal door first, so that it closes last.
	internal := &deferred{}
	p.add("internal door", internal)
	directory, alone, err := p.directory(env)
	if err != nil {
		return err
	}
	if err := p.openDisk(env, targets); err != nil {
		return err
	}
	node, dial, err := p.nodeDoor(env, alone, targets)
	if err != nil {
		return err
	}
	p.announcement = membership.NewAnnouncement(p.node)
	p.add("directory entry", run.Func(func(ctx context.Context) error {
		if !p.loaded(ctx) {
			return nil
		}
		return directory.Register(ctx, p.node, p.announcement.Updates())
	}))

	conns := p.pool(dial)
	if !alone {
		told := peers.New(directory, p.node.Name, conns, env.Logger.With(slog.String("part", "directory")))
		p.add("directory of peers", told)
		directory = told
	}
	d := deps{
		node: p.node, directory: directory, conns: conns, namespaces: namespaces, dial: dial, metrics: env.Metrics, logger: env.Logger,
		pace: env.Pace,
	}
	gateway, err := p.addServices(env, targets, d, node)
	if err != nil {
		return err
	}
	if internal.Component, err = p.internalDoor(env, gateway); err != nil {
		return err
	}
	if slices.Contains(targets, membership.Edge) {
		if err := p.addEdge(env, d, node); err != nil {
			return err
		}
	}
	p.add("goodbye", run.Func(p.goodbye))
	return nil
}

// deferred is a part whose place in the order is known before it is.
type deferred struct{ run.Component }

// directory is where nodes meet; alone says that there are no others.
func (p *Process) directory(env Env) (_ membership.Directory, alone bool, err error) {
	switch {
	case env.Directory != nil:
		return env.Directory, false, nil
	case len(p.cfg.Etcd.Endpoints) == 0:
		return memory.NewStore(p.cfg.Etcd.LeaseTTL).Directory(), true, nil
	}
	d, err := etcd.New(etcd.Config{
		Endpoints: p.cfg.Etcd.Endpoints, Prefix: p.cfg.Etcd.Prefix, Lease: p.cfg.Etcd.LeaseTTL,
		Dial: env.Dial, Logger: env.Logger.With(slog.String("part", "directory")),
	})
	if err != nil {
		return nil, false, fmt.Errorf("etcd.endpoints: %w", err)
	}
	p.add("directory", d)
	return d, false, nil
}

func (p *Process) add(name string, c run.Component) {
	p.parts = append(p.parts, run.Named(name, run.Func(func(ctx context.Context) error {
		p.logger.Debug("started", slog.String("part", name))
		err := c.Run(ctx)
		p.logger.Debug("stopped", slog.String("part", name), slog.Any("cause", context.Cause(ctx)))
		return err
	})))
}

func (p *Process) pool(dial dialer) *rpc.Pool {
	pool := rpc.NewPool(dial)
	p.conns = append(p.conns, pool)
	return pool
}

// Addrs returns where the doors are.
func (p *Process) Addrs() Addrs { return p.addrs }

// Node returns the process as others see it.
func (p *Process) Node() membership.Node { return p.node }

// Ready returns why each part of the process is not ready; nil: it is.
func (p *Process) Ready() map[string]error {
	parts := map[string]error{}
	for name, s := range p.services {
		parts[name] = s.Ready()
	}
	if p.draining.Load() {
		parts["process"] = run.ErrDraining
	}
	return parts
}

// Run serves until ctx ends, then drains. It returns an error if a part failed
// or the drain took longer than it may.
func (p *Process) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- run.All(ctx, p.parts...) }()
	select {
	case err := <-ended:
		return errors.Join(err, p.close())
	case <-ctx.Done():
	}
	cutoff := time.NewTimer(p.cfg.DrainTimeout)
	defer cutoff.Stop()
	select {
	case err := <-ended:
		return errors.Join(err, p.close())
	case <-cutoff.C:
		return errors.Join(fmt.Errorf("drain took longer than %v, the rest is cut off", p.cfg.DrainTimeout), p.close())
	}
}

// goodbye tells everybody that the process is about to leave.
func (p *Process) goodbye(ctx context.Context) error {
	<-ctx.Done()
	p.draining.Store(true)
	p.announcement.Change(func(n *membership.Node) { n.Draining = true })
	return nil
}

// close closes what Run's parts leave open.
func (p *Process) close() error {
	var errs []error
	if p.disk != nil {
		errs = append(errs, p.disk.Close())
	}
	for _, c := range p.conns {
		errs = append(errs, c.Close())
	}
	for _, l := range p.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// newID returns 128 random bits in hex.
func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}
