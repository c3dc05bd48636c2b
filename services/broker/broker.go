// Package broker orders, retains and fans out the messages of the slots it
// owns, and is the door for backends.
//
//  1. A publish is acknowledged once it is committed in its slot's log, which
//     lives in the memory of one process (one copy). What was acknowledged
//     reaches every follower of its channel, or a resync names the channel:
//     a slot that starts anew starts at a higher base, which followers see.
//  2. A slot is served by one member at a time. Its owner by an older row is
//     told to stop, and has stopped, before the new one begins.
//  3. Nothing is served before the directory's rows are known.
//  4. Public calls are served whoever owns the channel: they go through package
//     upstream, to this process's own slots too.
//  5. A broker that drains serves its slots until others have taken them, then
//     says goodbye to its followers. The last broker just stops.
//  6. The brokers elect one of them to be the controller, which writes the rows.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/broker/internal/controller"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// Deps are what a broker works with.
type Deps struct {
	// Node is this process as it is announced; its ID is the log-id.
	Node       membership.Node
	Directory  membership.Directory
	Conns      *rpc.Pool
	Namespaces *namespace.Set
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Service is a broker.
type Service struct {
	cfg        Config
	deps       Deps
	slots      *ownership
	node       *node
	mesh       *transport.Mesh // nil: slots have one copy
	public     *pubsub
	publisher  *upstream.Publisher
	reader     *upstream.Reader
	controller *controller.Controller
	draining   atomic.Bool
	drained    chan struct{}
}

// drainLook is how often a draining broker looks whether it may go.
const drainLook = 20 * time.Millisecond

// New returns a broker that does nothing yet. Its Node is announced, and
// withdrawn after Run, by the caller, who announces it as draining before or
// while Run's context ends.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	switch {
	case deps.Node.Name == "" || deps.Node.ID == "":
		return nil, errors.New("a broker needs a node with a name and an id")
	case deps.Directory == nil || deps.Conns == nil || deps.Namespaces == nil:
		return nil, errors.New("a broker needs a directory, connections and namespaces")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Registerer == nil {
		deps.Registerer = prometheus.NewRegistry()
	}
	member := deps.Node.Member()
	others := peers{cfg.Dial, deps.Conns}
	slots := newOwnership(member, slot.Config{
		Retention: history.Config{Class: classes(deps.Namespaces), Bytes: cfg.SlotBytes},
		LogBytes:  1, // of one copy nobody has to catch up
		KeyWindow: cfg.KeyWindow,
	}, others, deps.Logger)
	s := &Service{
		cfg: cfg, deps: deps, slots: slots, drained: make(chan struct{}),
		publisher: upstream.NewPublisher(upstream.PublisherConfig{
			Node: member, Directory: deps.Directory, Conns: deps.Conns, Timeout: cfg.PublishTimeout,
			Registerer: deps.Registerer, Logger: deps.Logger,
		}),
		reader: upstream.NewReader(upstream.ReaderConfig{
			Directory: deps.Directory, Conns: deps.Conns, Timeout: cfg.Timeout,
		}),
	}
	m := newMetrics(deps.Registerer, slots)
	s.node = &node{cfg: cfg, member: member, slots: slots, metrics: m, drained: s.drained}
	s.public = &pubsub{
		cfg: cfg, deps: deps, view: slots.known, publisher: s.publisher, reader: s.reader, metrics: m, drained: s.drained,
	}
	s.controller = controller.New(controller.Config{
		Directory: deps.Directory, Candidate: member, Probe: others.probe,
		Lease: cfg.Lease, Moved: m.moved, Logger: deps.Logger,
	})
	return s, nil
}

// RegisterPublic registers PubSubService.
func (s *Service) RegisterPublic(r grpc.ServiceRegistrar) {
	pubsubv1.RegisterPubSubServiceServer(r, s.public)
}

// RegisterNode registers BrokerService.
func (s *Service) RegisterNode(r grpc.ServiceRegistrar) {
	if s.mesh == nil {
		brokerv1.RegisterBrokerServiceServer(r, s.node)
		return
	}
	brokerv1.RegisterBrokerServiceServer(r, replicatingNode{s.node, s.mesh})
}

// Ready says why the broker should not get calls yet, or any more.
func (s *Service) Ready() error {
	switch view := s.slots.view.Load(); {
	case s.draining.Load():
		return run.ErrDraining
	case view == nil:
		return errors.New("the directory has not answered yet")
	case !view.Table.Complete():
		return errors.New("there are slots that nobody owns yet")
	}
	return nil
}

// Run serves until ctx ends, then drains.
func (s *Service) Run(ctx context.Context) error {
	err := run.All(ctx,
		run.Named("ownership", run.Func(s.follow)),
		run.Named("sweep", run.Func(s.sweep)),
		run.Named("publisher", s.publisher),
		run.Named("reader", s.reader),
		run.Named("controller", s.controller),
		run.Named("drain", run.Func(s.drain)), // stopped first: the others work on meanwhile
	)
	if err != nil {
		return fmt.Errorf("run broker: %w", err)
	}
	return nil
}

func (s *Service) follow(ctx context.Context) error {
	s.slots.follow(ctx, s.deps.Directory.Watch(ctx))
	return nil
}

// sweep drops what is too old from the slots' histories.
func (s *Service) sweep(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.slots.expire(now)
		}
	}
}

// drain waits for ctx to end, then until other brokers have taken the slots of
// this one, or there are none, or the time for it is over.
func (s *Service) drain(ctx context.Context) error {
	<-ctx.Done()
	defer close(s.drained)
	s.draining.Store(true)
	cutoff := time.NewTimer(s.cfg.DrainTimeout)
	defer cutoff.Stop()
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for s.slots.serving() > 0 && s.others() {
		select {
		case <-cutoff.C:
			s.deps.Logger.Warn("stopped with slots that nobody took", slog.Int("slots", s.slots.serving()))
			return nil
		case <-look.C:
		}
	}
	return nil
}

// others reports whether there are brokers that could take slots.
func (s *Service) others() bool {
	for _, b := range s.slots.known().With(membership.Broker) {
		if !b.Draining && b.Member() != s.deps.Node.Member() {
			return true
		}
	}
	return false
}
