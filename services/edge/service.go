package edge

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/records"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/edge/demo"
	"github.com/comet-push/comet/services/edge/internal/admission"
	"github.com/comet-push/comet/services/edge/internal/channels"
	"github.com/comet-push/comet/services/edge/internal/deadline"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/hub"
	"github.com/comet-push/comet/services/edge/internal/relay"
	"github.com/comet-push/comet/services/edge/internal/report"
	"github.com/comet-push/comet/services/edge/internal/session"
	"github.com/comet-push/comet/services/edge/internal/transport"
	"github.com/comet-push/comet/services/edge/internal/web"
)

const (
	slots       = shard.Slots
	timerQueues = 4

	// deadlineSlack is how late a poll may be answered or a session expire:
	// waking up costs more than answering.
	deadlineSlack = 100 * time.Millisecond
)

// Publisher publishes to brokers; see [upstream.Publisher].
type Publisher interface {
	Publish(m upstream.Publication, done func(upstream.Ack, error))
}

// Follower follows channels for the edge; see [upstream.Follower].
type Follower interface {
	Join(channel string)
	Leave(channel string)
}

// Reader reads history at brokers; see [upstream.Reader].
type Reader interface {
	ReadAtLeast(ctx context.Context, req *brokerv1.ReadRequest, known uint64) (*brokerv1.ReadResponse, error)
}

// Service is an edge.
type Service struct {
	cfg          Config
	node         membership.Node
	announcement *membership.Announcement // nil: orders of a drain are not announced
	directory    membership.Directory
	conns        *rpc.Pool
	logger       *slog.Logger
	metrics      *metrics
	engine       *hold.Engine
	handler      http.Handler
	sessions     *session.Config

	publisher Publisher
	follower  Follower
	upstream  []run.Component // the three, as far as they run
	hub       *hub.Hub[subscriber]
	reads     reads
	reports   *report.Reporter
	rosters   *rosters
	plain     *plainDoor

	hint       string // what the ids made here begin with
	registry   *registry
	edges      edges
	fronts     *relay.Front
	arrivals   *arrivals
	keyring    *keyring
	departures departures
	endings    endings
	orders     backendOrders
	homes      homes
	vector     atomic.Pointer[[]uint64] // that records count from
	reported   atomic.Pointer[[]uint64] // it, once all records are marked that it changes
	settled    atomic.Pointer[[]uint64] // an older one, which all holders of records have
	newcomers  *admission.Gate
	resumers   *admission.Gate
	browsers   browsers
	sockets    sockets
	deadlines  [timerQueues]*deadline.Queue[*client]
	pings      *deadline.Queue[*socket]
	pingFrames [256]*frame.Frame // by number; 0: one whose pong nobody waits for
	numbers    atomic.Uint64     // the last exchange or stream
	unanswered inFlight

	draining atomic.Bool // the drain has been asked for
	drain    draining
	ready    atomic.Bool // the cluster has been seen complete
}

// New returns an edge that serves once it runs.
func New(cfg Config, deps Deps) (*Service, error) {
	cfg = cfg.withDefaults()
	s, err := build(cfg, deps)
	if err != nil {
		return nil, err
	}
	node := deps.Node.Member()
	publisher := upstream.NewPublisher(upstream.PublisherConfig{
		Node: node, Directory: deps.Directory, Conns: deps.Conns,
		Timeout: cfg.PublishTimeout, Registerer: deps.Registerer, Logger: deps.Logger,
	})
	follower := upstream.NewFollower(upstream.FollowerConfig{
		Node: node, Directory: deps.Directory, Conns: deps.Conns, Heartbeat: cfg.BrokerHeartbeat,
		Copies: cfg.FollowCopies, Zone: deps.Node.Zone,
		Registerer: deps.Registerer, Logger: deps.Logger,
	}, sink{s})
	reader := upstream.NewReader(upstream.ReaderConfig{Directory: deps.Directory, Conns: deps.Conns})
	s.publisher, s.follower, s.reads.reader = publisher, follower, reader
	s.upstream = []run.Component{
		run.Named("publisher", publisher), run.Named("follower", follower), run.Named("reader", reader),
	}
	return s, nil
}

// build returns an edge without its upstream.
func build(cfg Config, deps Deps) (*Service, error) {
	origins, err := web.ParseOrigins(cfg.AllowedOrigins)
	if err != nil {
		return nil, err
	}
	s := &Service{
		cfg:          cfg,
		node:         deps.Node,
		announcement: deps.Announcement,
		drain:        newDraining(),
		directory:    deps.Directory,
		conns:        deps.Conns,
		logger:       deps.Logger,
		hub:          hub.New[subscriber](cfg.rings()),
		hint:         shard.Hint(deps.Node.Member()),
		registry:     newRegistry(cfg.MaxSessions),
		edges:        edges{self: deps.Node.Member()},
		newcomers:    admission.New(cfg.SessionRate),
		resumers:     admission.New(cfg.ResumeRate),
		browsers:     browsers{most: cfg.BrowserConnects, seed: maphash.MakeSeed()},
		sockets:      sockets{most: cfg.MaxSessions},
		orders:       backendOrders{most: cfg.Requests},
		pings:        deadline.New[*socket](deadlineSlack),
	}
	for number := range s.pingFrames {
		s.pingFrames[number] = frame.Ping(byte(number))
	}
	s.reads = newReads()
	for i := range s.deadlines {
		s.deadlines[i] = deadline.New[*client](deadlineSlack)
	}
	s.metrics = newMetrics(deps.Registerer, s.registry.len, s.sockets.len, s.hub.Topics)
	showDrain(deps.Registerer, s)
	s.sessions = s.permissions(deps.Namespaces)
	s.rosters = newRosters(s, deps)
	s.reports = report.New(report.Config{
		Edge: deps.Node.Member(), Directory: deps.Directory, Conns: deps.Conns,
		Registerer: deps.Registerer, Logger: deps.Logger,
	}, (*presence)(s))
	s.engine = hold.NewEngine(hold.Config{
		WriteTimeout: cfg.WriteTimeout, DrainWindow: cfg.DrainWindow, Cut: s.cut,
		Failed: func(err error) {
			s.logger.Warn("connections are not accepted as they should be", slog.Any("error", err))
		},
	})
	s.keyring = newKeyring(deps.Directory, deps.Logger, cfg.BindCookie)
	s.arrivals = newArrivals(s, records.New(s.edges.known, deps.Conns))
	s.fronts = relay.NewFront(relay.Config{
		Self: deps.Node.Member(), Directory: deps.Directory, Conns: deps.Conns,
		Most: cfg.MaxSessions, Logger: deps.Logger,
	})
	showConnections(deps.Registerer, s.engine.Counts)
	if s.handler, err = s.doors(origins, deps); err != nil {
		return nil, err
	}
	s.engine.Direct(s.handler, answeredOnce)
	return s, nil
}

// doors returns the handler of all that is served to browsers.
func (s *Service) doors(origins *web.Origins, deps Deps) (http.Handler, error) {
	bayeux := transport.New(transport.Config{
		Origins:     origins,
		ReadTimeout: s.cfg.ReadTimeout,
		Holder:      s.engine,
		Streamer:    s.engine,
		Number:      s.number,
		JSONP:       s.cfg.JSONP,
		Refused:     func(reason string) { s.metrics.refused.WithLabelValues(reason).Inc() },
		Draining:    s.draining.Load,
	}, s)
	s.plain = newPlainDoor(s, deps)
	plain := s.plain.handler(origins, s.engine, s.engine)
	var rest http.Handler = http.HandlerFunc(transport.NotFound)
	if s.cfg.Dev {
		var err error
		if rest, err = demo.New(s.cfg.PublishURL, rest); err != nil {
			return nil, err
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case transport.Match(r.URL.Path):
			bayeux.ServeHTTP(w, r)
		case channels.Match(r.URL.Path):
			plain.ServeHTTP(w, r)
		default:
			rest.ServeHTTP(w, r)
		}
	}), nil
}

// answeredOnce reports whether a request has nothing to do with streams, so that
// its handler does not block.
func answeredOnce(r *http.Request) bool {
	return r.Method == http.MethodPost && transport.Match(r.URL.Path) || channels.Match(r.URL.Path) && channels.Once(r)
}

// Handler serves the public door. It is no [http.ServeMux], and must not be
// mounted on one: that redirects.
func (s *Service) Handler() http.Handler { return s.handler }

// Listen returns the listener to serve instead of l, on which requests that wait
// cost no goroutine. It is for listeners without TLS, before Connections runs.
func (s *Service) Listen(l net.Listener) net.Listener { return s.engine.Listen(l) }

// ConnContext is for [http.Server].
func (s *Service) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return s.engine.ConnContext(ctx, c)
}

// ConnState is for [http.Server].
func (s *Service) ConnState(c net.Conn, state http.ConnState) { s.engine.ConnState(c, state) }

// Connections keeps the connections of the public door. It has to outlive the
// server of that, as the server has to outlive the edge.
func (s *Service) Connections() run.Component { return s.engine }

// RegisterNode registers what other nodes call.
func (s *Service) RegisterNode(r grpc.ServiceRegistrar) {
	edgev1.RegisterEdgeServiceServer(r, &deliverServer{s: s})
}

// Ready says why the edge should get no traffic, or nil. Once the cluster has
// been complete it stays ready until it drains: a slot without an owner is no
// reason to send browsers away.
func (s *Service) Ready() error {
	switch {
	case s.draining.Load():
		return run.ErrDraining
	case !s.ready.Load():
		return errors.New("no view of the cluster in which every slot has an owner yet")
	case len(s.keyring.keys()) == 0:
		return errors.New("the keys of clientIds have not been read yet")
	}
	return nil
}

// number returns the number of another exchange or stream.
func (s *Service) number() uint64 { return s.numbers.Add(1) }

// sinceStart is a time as the service counts it, on the monotonic clock; 0 is
// no time.
func (s *Service) sinceStart(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(t.Sub(s.sessions.Origin), 1)
}

// timeOf is the reverse of sinceStart.
func (s *Service) timeOf(since time.Duration) time.Time { return s.sessions.Origin.Add(since) }

// follow keeps up with the directory until ctx ends.
func (s *Service) follow(ctx context.Context) error {
	for v := range s.directory.Watch(ctx) {
		s.edges.see(v)
		if v.Table.Complete() {
			s.ready.Store(true)
		}
	}
	return nil
}

// Run serves until ctx ends. If it drains, every session has been told and is
// gone when Run returns; a drain that an operator has ordered goes on.
func (s *Service) Run(ctx context.Context) error {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- run.All(own, s.components()...) }()
	select {
	case err := <-ended:
		return fmt.Errorf("edge: %w", err)
	case <-ctx.Done():
	}
	if errors.Is(context.Cause(ctx), run.ErrDraining) {
		s.beginDrain()
		select {
		case <-s.drain.done:
			s.endRest(own) // those that came since
		case err := <-ended:
			return fmt.Errorf("edge: %w", err)
		}
	}
	s.closeSockets()
	cancel(context.Cause(ctx))
	return <-ended
}

func (s *Service) components() []run.Component {
	components := append([]run.Component{}, s.upstream...)
	components = append(components,
		run.Named("pings", run.Func(func(ctx context.Context) error {
			return s.pings.Run(ctx, func(now time.Time, k *socket) { k.tick(now) })
		})),
		run.Named("directory", run.Func(s.follow)),
		run.Named("reports", s.reports),
		run.Named("reads", &s.reads),
		run.Named("rosters", run.Func(s.rosters.run)),
		run.Named("fronts", s.fronts),
		run.Named("arrivals", run.Func(s.arrivals.run)),
		run.Named("vectors", run.Func(s.vectors)),
		run.Named("keys", run.Func(s.keyring.run)),
		run.Named("interests", run.Func(s.interests)),
	)
	for _, q := range s.deadlines {
		components = append(components, run.Named("deadlines", run.Func(func(ctx context.Context) error {
			return q.Run(ctx, func(now time.Time, c *client) { c.tick(now) })
		})))
	}
	return append(append(components, s.plain.components()...), run.Named("drain", run.Func(s.drains)))
}
