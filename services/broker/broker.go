// Package broker orders, retains, replicates and fans out the messages of
// slots, and is the door for backends.
//
//  1. A publish is acknowledged once it is committed: held by every member that
//     its slot's row names in sync (package replica). What was acknowledged
//     reaches every follower of its channel, or a resync names the channel: a
//     slot all of whose copies are lost starts anew at a higher base, which
//     followers see.
//  2. A slot is served by the member that leads its term, once all that earlier
//     terms left behind is committed. Whoever led it before can commit nothing
//     any more, whether it knows or not.
//  3. Nothing is served before the directory's rows are known.
//  4. Public calls are served whoever owns the channel: they go through package
//     upstream, to this process's own slots too.
//  5. A broker that drains serves its slots until others have taken them, and
//     keeps its copies until others have them, then says goodbye to its
//     followers. The last broker just stops.
//  6. The brokers elect one of them to be the controller, which writes who
//     should have the slots; the primaries do the rest.
//  7. Operators look and give orders at any broker, which passes them on. A
//     broker that they drain announces that it is cordoned: the mark goes with
//     its process, outlives any controller, and its slots go as in fact 5. It
//     serves backends and followers on, ready.
//  8. Calls about sessions go to the edge that is their home. What may be repeated
//     is tried again while a session moves; a session that no edge has any more is
//     ended by one that claims it.
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

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/records"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/broker/internal/controller"
	"github.com/comet-push/comet/services/broker/internal/placement"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"
)

// Deps are what a broker works with.
type Deps struct {
	// Node is this process as it is announced; its ID is the log-id.
	Node membership.Node
	// Announcement is how it is announced; operators' orders change it.
	Announcement *membership.Announcement
	// Disk keeps the logs; nil: they end with the process.
	Disk       *Disk
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
	places     *places
	conns      *rpc.Pool // of the mesh
	mesh       *transport.Mesh
	node       *node
	public     *pubsub
	publisher  *upstream.Publisher
	reader     *upstream.Reader
	controller *controller.Controller
	admin      *admin
	operators  *operators
	draining   atomic.Bool
	drained    chan struct{}
	loaded     chan struct{}
	lost       atomic.Bool // the disk is not written any more
}

// drainLook is how often a draining broker looks whether it may go.
const drainLook = 20 * time.Millisecond

// New returns a broker that does nothing yet. Its Node is announced, and
// withdrawn after Run, by the caller, who announces it as draining before or
// while Run's context ends.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults(deps.Disk != nil)
	switch {
	case deps.Node.Name == "" || deps.Node.ID == "":
		return nil, errors.New("a broker needs a node with a name and an id")
	case deps.Disk != nil && (deps.Node.ID != deps.Disk.ID() || !deps.Node.Durable):
		return nil, errors.New("a broker with a disk needs a durable node with the disk's id")
	case deps.Announcement == nil || deps.Directory == nil || deps.Conns == nil || deps.Namespaces == nil:
		return nil, errors.New("a broker needs an announcement, a directory, connections and namespaces")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Registerer == nil {
		deps.Registerer = prometheus.NewRegistry()
	}
	s := &Service{cfg: cfg, deps: deps, drained: make(chan struct{}), loaded: make(chan struct{}), conns: rpc.NewPool(cfg.Dial)}
	m := newMetrics(deps.Registerer)
	s.places = newPlaces(cfg, deps, m)
	deps.Registerer.MustRegister(newGauges(s.places))
	var err error
	s.mesh, err = transport.New(transport.Config{
		Self: deps.Node.Member(), Conns: s.conns, Handler: s.places, Heartbeat: cfg.Heartbeat,
		Registerer: deps.Registerer, Logger: deps.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("connect brokers: %w", err)
	}
	s.places.mesh = s.mesh
	others := peers{cfg.Dial, deps.Conns}
	s.controller = controller.New(controller.Config{
		Directory: deps.Directory, Candidate: deps.Node.Member(), Probe: others.probe, Lease: cfg.Lease,
		Placement: placement.Config{Replicas: cfg.Replicas, RepairAfter: cfg.RepairAfter}, // the primaries write UncleanAfter
		Durable:   deps.Disk != nil,
		Moved:     m.moved, Logger: deps.Logger,
	})
	s.node = &node{
		cfg: cfg, member: deps.Node.Member(), places: s.places, mesh: s.mesh, metrics: m, drained: s.drained,
		leads: s.controller.Leads,
	}
	s.serveBackends(m)
	s.admin = &admin{deps: deps, places: s.places, controller: s.controller, leaving: s.draining.Load}
	s.operators = &operators{cfg: cfg, conns: deps.Conns, view: s.places.known, metrics: m}
	return s, nil
}

// serveBackends makes what serves the public door.
func (s *Service) serveBackends(m *metrics) {
	s.publisher = upstream.NewPublisher(upstream.PublisherConfig{
		Node: s.deps.Node.Member(), Directory: s.deps.Directory, Conns: s.deps.Conns, Timeout: s.cfg.PublishTimeout,
		Own:        s.node.appendHere,
		Registerer: s.deps.Registerer, Logger: s.deps.Logger,
	})
	s.reader = upstream.NewReader(upstream.ReaderConfig{
		Directory: s.deps.Directory, Conns: s.deps.Conns, Timeout: s.cfg.Timeout,
	})
	s.public = &pubsub{
		cfg: s.cfg, deps: s.deps, view: s.places.known,
		publisher: s.publisher, reader: s.reader, records: records.New(s.places.known, s.deps.Conns),
		metrics: m, drained: s.drained,
	}
}

// RegisterPublic registers PubSubService, and AdminService for the cluster.
func (s *Service) RegisterPublic(r grpc.ServiceRegistrar) {
	pubsubv1.RegisterPubSubServiceServer(r, s.public)
	adminv1.RegisterAdminServiceServer(r, s.operators)
}

// RegisterNode registers BrokerService, and AdminService for this broker alone.
func (s *Service) RegisterNode(r grpc.ServiceRegistrar) {
	brokerv1.RegisterBrokerServiceServer(r, s.node)
	adminv1.RegisterAdminServiceServer(r, s.admin)
}

// Ready says why the broker should not get calls yet, or any more.
func (s *Service) Ready() error {
	switch view := s.places.view.Load(); {
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
	if err := s.load(ctx); err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return errors.Join(err, s.conns.Close())
	}
	err := run.All(ctx,
		run.Named("disk", s.keep()),
		run.Named("mesh", s.mesh),
		run.Named("places", s.places),
		run.Named("publisher", s.publisher),
		run.Named("reader", s.reader),
		run.Named("controller", s.controller),
		run.Named("drain", run.Func(s.drain)), // stopped first: the others work on meanwhile
	)
	if err = errors.Join(err, s.conns.Close()); err != nil {
		return fmt.Errorf("run broker: %w", err)
	}
	return nil
}

// drain waits for ctx to end, then until other brokers have all that this one
// leads or is counted on for, or there are none, or the time for it is over. A
// crash waits for nobody.
func (s *Service) drain(ctx context.Context) error {
	<-ctx.Done()
	defer close(s.drained)
	s.draining.Store(true)
	if !errors.Is(context.Cause(ctx), run.ErrDraining) {
		return nil
	}
	began, patient := time.Now(), false
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for {
		needed, only := s.places.needed()
		took := time.Since(began)
		switch {
		case needed == 0 || !s.others() || s.lost.Load():
			return nil
		case len(only) == 0 && took >= s.cfg.DrainTimeout:
			s.deps.Logger.Warn("stopped with slots that nobody took; others have copies of all of them", slog.Int("slots", needed))
			return nil
		case took >= s.cfg.LastCopyTimeout:
			s.deps.Logger.Error("stopped with the only copies of slots; they are served again when this broker is back"+
				" with its disk, or without one start empty", slog.Any("slots", only), slog.Bool("disk", s.deps.Disk != nil))
			return nil
		case took >= s.cfg.DrainTimeout && !patient:
			patient = true
			s.deps.Logger.Warn("nobody else has copies of slots yet; waiting for longer before they are given up",
				slog.Any("slots", only), slog.Duration("for", s.cfg.LastCopyTimeout-took))
		}
		<-look.C
	}
}

// others reports whether there are brokers that could take slots.
func (s *Service) others() bool {
	for _, b := range s.places.known().With(membership.Broker) {
		if !b.Draining && b.Member() != s.deps.Node.Member() {
			return true
		}
	}
	return false
}
