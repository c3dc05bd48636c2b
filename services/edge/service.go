package edge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/edge/demo"
	"github.com/comet-push/comet/services/edge/internal/deadline"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/hub"
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
	Read(ctx context.Context, req *brokerv1.ReadRequest) (*brokerv1.ReadResponse, error)
}

// Service is an edge.
type Service struct {
	cfg       Config
	node      membership.Node
	directory membership.Directory
	logger    *slog.Logger
	metrics   *metrics
	handler   http.Handler
	sessions  *session.Config

	publisher Publisher
	follower  Follower
	upstream  []run.Component // the three, as far as they run
	hub       *hub.Hub[subscriber]
	replays   replays
	reports   *report.Reporter

	registry   *registry
	browsers   browsers
	deadlines  [timerQueues]*deadline.Queue[*client]
	unanswered inFlight

	draining atomic.Bool
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
		Node: node, Directory: deps.Directory, Conns: deps.Conns,
		Registerer: deps.Registerer, Logger: deps.Logger,
	}, sink{s})
	reader := upstream.NewReader(upstream.ReaderConfig{Directory: deps.Directory, Conns: deps.Conns})
	s.publisher, s.follower, s.replays.reader = publisher, follower, reader
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
		cfg:       cfg,
		node:      deps.Node,
		directory: deps.Directory,
		logger:    deps.Logger,
		hub:       hub.New[subscriber](cfg.rings()),
		registry:  newRegistry(cfg.MaxSessions),
		browsers:  browsers{most: cfg.BrowserConnects},
	}
	s.replays.queue = make(chan read, readQueue)
	for i := range s.deadlines {
		s.deadlines[i] = deadline.New[*client](deadlineSlack)
	}
	s.metrics = newMetrics(deps.Registerer, s.registry.len, s.hub.Topics)
	s.sessions = s.permissions(deps.Namespaces)
	s.reports = report.New(report.Config{
		Edge: deps.Node.Member(), Directory: deps.Directory, Conns: deps.Conns,
		Registerer: deps.Registerer, Logger: deps.Logger,
	}, (*presence)(s))
	door := transport.New(transport.Config{
		Origins:     origins,
		ReadTimeout: cfg.ReadTimeout,
		Holder:      hold.Waiting{WriteTimeout: cfg.WriteTimeout, DrainWindow: cfg.DrainWindow},
		Refused:     func(reason string) { s.metrics.refused.WithLabelValues(reason).Inc() },
		Draining:    s.draining.Load,
	}, s)
	var rest http.Handler = http.HandlerFunc(transport.NotFound)
	if cfg.Dev {
		if rest, err = demo.New(cfg.PublishURL, rest); err != nil {
			return nil, err
		}
	}
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if transport.Match(r.URL.Path) {
			door.ServeHTTP(w, r)
		} else {
			rest.ServeHTTP(w, r)
		}
	})
	return s, nil
}

// Handler serves the public door. It is no [http.ServeMux], and must not be
// mounted on one: that redirects.
func (s *Service) Handler() http.Handler { return s.handler }

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
	}
	return nil
}

// Receive implements [transport.Sessions].
func (s *Service) Receive(e *hold.Exchange, r transport.Request) {
	id, handshake := session.Route(r.Messages)
	if handshake {
		s.handshake(e, r)
		return
	}
	c := s.registry.find(id)
	if c == nil {
		s.refused(channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN)
		e.Answer(hold.Answer{Status: http.StatusOK, Body: session.Unknown(s.sessions, time.Now(), r.Messages)})
		return
	}
	request := session.Request{Exchange: session.Exchange(e.Number()), Messages: r.Messages}
	var b *browser
	if !r.Multiplexed && len(r.Messages) == 1 && r.Messages[0].Channel == bayeux.Connect {
		b, request.NoHold = s.browsers.enter(r.Browser, c)
	}
	s.unanswered.add()
	e.Own(c)
	c.receive(e, b, request)
}

func (s *Service) handshake(e *hold.Exchange, r transport.Request) {
	if s.draining.Load() {
		s.refuseHandshake(e, r, channelv1.ErrorReason_ERROR_REASON_DRAINING, bayeux.Unavailable(), s.drainInterval())
		return
	}
	if !s.registry.reserve() {
		s.refuseHandshake(e, r, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, bayeux.LimitExceeded("sessions"), s.fullInterval())
		return
	}
	now := time.Now()
	c := &client{service: s, id: newID(), publicID: shard.Hint(s.node.Member()) + "-" + strings.ToLower(rand.Text()), since: now}
	c.timer.Value = c
	c.session = session.New(s.sessions, c.id, c.publicID, "")
	s.registry.add(c)
	s.unanswered.add()
	e.Own(c)
	c.handshake(e, session.Request{Exchange: session.Exchange(e.Number()), Messages: r.Messages})
	if s.draining.Load() {
		c.end(session.Drained) // the drain may have missed it
	}
}

// refuseHandshake answers a handshake that can be repeated later.
func (s *Service) refuseHandshake(
	e *hold.Exchange, r transport.Request, reason channelv1.ErrorReason, err *bayeux.Error, interval time.Duration,
) {
	s.refused(reason)
	replies := make([]bayeux.Message, len(r.Messages))
	for i := range r.Messages {
		m := &r.Messages[i]
		if m.Channel != bayeux.Handshake {
			replies[i] = m.Reply(bayeux.SessionUnknown())
			continue
		}
		replies[i] = m.Reply(err)
		replies[i].Advice = bayeux.NewAdvice(bayeux.ReconnectHandshake, interval, s.cfg.PollTimeout)
	}
	e.Answer(hold.Answer{Status: http.StatusOK, Body: bayeux.AppendBatch(nil, replies)})
}

// newID returns 160 random bits in letters and digits.
func newID() string {
	const length = 160 / 5
	return (rand.Text() + rand.Text())[:length]
}

func (s *Service) timers(c *client) *deadline.Queue[*client] {
	return s.deadlines[c.publicID[len(c.publicID)-1]%timerQueues]
}

// written books an answer that reached the socket.
func (s *Service) written(now time.Time, x exchange) {
	s.unanswered.done()
	if x.events == 0 {
		return
	}
	s.metrics.deliveries.Add(float64(x.events))
	if !x.newest.IsZero() {
		s.metrics.socket.Observe(max(now.Sub(x.newest), 0).Seconds()) // clocks may differ
	}
}

// release ends what an exchange occupies while it is unanswered.
func (s *Service) release(c *client, x *exchange) {
	if x.browser != nil {
		s.browsers.leave(x.browser, c)
		x.browser = nil
	}
	if x.held {
		s.metrics.held.Dec()
		x.held = false
	}
}

func (s *Service) refused(reason channelv1.ErrorReason) {
	s.metrics.refused.WithLabelValues(rpc.ReasonName(reason)).Inc()
}

// follow keeps up with the directory until ctx ends.
func (s *Service) follow(ctx context.Context) error {
	for v := range s.directory.Watch(ctx) {
		if v.Table.Complete() {
			s.ready.Store(true)
		}
	}
	return nil
}

// Run serves until ctx ends. If it drains, every session has been told and is
// gone when Run returns.
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
		s.drain(ctx)
	}
	cancel(context.Cause(ctx))
	return <-ended
}

func (s *Service) components() []run.Component {
	components := append([]run.Component{}, s.upstream...)
	components = append(components,
		run.Named("directory", run.Func(s.follow)),
		run.Named("reports", s.reports),
		run.Named("replays", &s.replays),
		run.Named("interests", run.Func(s.interests)),
	)
	for _, q := range s.deadlines {
		components = append(components, run.Named("deadlines", run.Func(func(ctx context.Context) error {
			return q.Run(ctx, func(now time.Time, c *client) { c.tick(now) })
		})))
	}
	return components
}
