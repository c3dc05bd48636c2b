package edge

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/hub"
	"github.com/comet-push/comet/services/edge/internal/session"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// Config says how an edge behaves. The zero value of a field is its default.
type Config struct {
	// PollTimeout is how long a connect without news is held; 30 s.
	PollTimeout time.Duration
	// MaxInterval is how long a session lives without a connect; 10 s.
	MaxInterval time.Duration
	// Piggyback sends long-polling sessions without the ack extension events with
	// every answer, not only with those to connects.
	Piggyback bool

	// Heartbeat is after how long without a frame a stream gets one; 25 s.
	Heartbeat time.Duration
	// JSONP lets script tags read and send.
	JSONP bool
	// FrameMaxBytes is how much goes into one forever-frame; 1 MiB.
	FrameMaxBytes int

	// AckExact says what sessions with the ack extension survive without seeing a
	// message twice; ExactAfterKill.
	AckExact string
	// BindCookie binds a clientId to the browser cookie of its handshake: without
	// that it is refused.
	BindCookie bool

	// AllowedOrigins are the origins of pages that may use the edge besides its
	// own: https://app.example.com, https://*.example.com or loopback.
	AllowedOrigins []string
	// Dev serves the demo page and allows pages of this machine.
	Dev bool
	// PublishURL is where the demo page says to publish by REST; it may be empty.
	PublishURL string

	// MaxSessions bounds the sessions of the edge, and its WebSockets; 100,000.
	MaxSessions int
	// SessionRate bounds how many sessions and readers of plain channels begin in
	// a second, ResumeRate how many readers go on where they were; 5,000, 10,000.
	SessionRate int
	ResumeRate  int
	// BrowserConnects bounds the connects held for one browser on HTTP/1.1,
	// which opens only about six connections; more are answered at once, with
	// the advice multiple-clients. 1 as in CometD, in Dev 4; below 0: no bound.
	BrowserConnects int
	// QueueMessages and QueueBytes bound what waits for one session; 1000, 1 MiB.
	QueueMessages int
	QueueBytes    int
	// Subscriptions bounds those of one session; 1000.
	Subscriptions int
	// Requests and Publishes bound what one session has under way; 64, 1000. A
	// message of a WebSocket, on which clients send publishes one by one, counts
	// as a publish.
	Requests  int
	Publishes int

	// RingMessages and RingBytes bound what is kept of each channel to answer
	// replays with, RingTotal all of it; 32, 64 KiB, 64 MiB.
	RingMessages int
	RingBytes    int
	RingTotal    int
	// Linger is how long a channel that nobody reads any more stays joined for
	// who comes back, and Lingering how many of these there are at most; 30 s,
	// 10,000; below 0: none.
	Linger    time.Duration
	Lingering int

	// ReadTimeout bounds the arrival of a body, WriteTimeout the writing of an
	// answer; 10 s.
	ReadTimeout  time.Duration
	WriteTimeout time.Duration
	// BrokerHeartbeat is how often brokers give a sign of life; 1 s.
	BrokerHeartbeat time.Duration
	// FollowCopies lets slots be followed at any member in sync, of the edge's own
	// zone if there is one, and not only at the primary.
	FollowCopies bool
	// JoinTimeout is how long a subscribe waits for a broker; 5 s. It and
	// PublishTimeout, 8 s, have to lie below the 10 s that clients wait.
	JoinTimeout    time.Duration
	PublishTimeout time.Duration
	// DrainTimeout bounds a drain, DrainWindow is the part of it over which
	// clients are sent away at least, longer where there are very many; 25 s, 2 s.
	DrainTimeout time.Duration
	DrainWindow  time.Duration
}

// The values of Config.AckExact.
const (
	// ExactAfterKill: what such a session is sent is recorded at presence before it
	// is written, so the loss of its edge repeats nothing.
	ExactAfterKill = "kill"
	// ExactAfterHandover: only moves and drains repeat nothing. An edge that is lost
	// takes with it what the last seconds brought: that comes again.
	ExactAfterHandover = "handover"
)

// Deps is what an edge needs of the process it runs in.
type Deps struct {
	// Node is this process as it is announced.
	Node membership.Node
	// Announcement is how it is announced; an operator's order changes it. May be
	// nil.
	Announcement *membership.Announcement
	Directory    membership.Directory
	Conns        *rpc.Pool
	Namespaces   *namespace.Set
	Registerer   prometheus.Registerer
	Logger       *slog.Logger
}

func (c Config) withDefaults() Config {
	c.PollTimeout = cmp.Or(c.PollTimeout, 30*time.Second)
	c.MaxInterval = cmp.Or(c.MaxInterval, 10*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, 25*time.Second)
	c.AckExact = cmp.Or(c.AckExact, ExactAfterKill)
	c.FrameMaxBytes = cmp.Or(c.FrameMaxBytes, 1<<20)
	c.MaxSessions = cmp.Or(c.MaxSessions, 100_000)
	c.SessionRate = cmp.Or(c.SessionRate, 5_000)
	c.ResumeRate = cmp.Or(c.ResumeRate, 10_000)
	c.Subscriptions = cmp.Or(c.Subscriptions, 1000)
	c.Requests = cmp.Or(c.Requests, 64)
	c.Publishes = cmp.Or(c.Publishes, 1000)
	c.RingMessages = cmp.Or(c.RingMessages, 32)
	c.RingBytes = cmp.Or(c.RingBytes, 64<<10)
	c.RingTotal = cmp.Or(c.RingTotal, 64<<20)
	c.Linger = cmp.Or(c.Linger, 30*time.Second)
	c.Lingering = cmp.Or(c.Lingering, 10_000)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 10*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.JoinTimeout = cmp.Or(c.JoinTimeout, 5*time.Second)
	c.PublishTimeout = cmp.Or(c.PublishTimeout, 8*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 25*time.Second)
	c.DrainWindow = min(cmp.Or(c.DrainWindow, 2*time.Second), c.DrainTimeout/2)
	if c.Dev && !slices.Contains(c.AllowedOrigins, web.Loopback) {
		c.AllowedOrigins = append(slices.Clone(c.AllowedOrigins), web.Loopback)
	}
	if c.BrowserConnects == 0 {
		c.BrowserConnects = 1
		if c.Dev {
			c.BrowserConnects = 4 // the page is meant to be opened twice
		}
	}
	return c
}

// sessions is the config of sessions, without permissions.
func (c Config) sessions() session.Config {
	types := []string{bayeux.WebSocket, bayeux.LongPolling}
	if c.JSONP {
		types = append(types, bayeux.CallbackPolling)
	}
	return session.Config{
		Origin:          time.Now(),
		ConnectionTypes: types,
		Timeout:         c.PollTimeout,
		MaxInterval:     c.MaxInterval,
		QueueMessages:   c.QueueMessages,
		QueueBytes:      c.QueueBytes,
		Subscriptions:   c.Subscriptions,
		Exchanges:       max(c.Requests, c.Publishes), // requests are counted before
		Piggyback:       c.Piggyback,
		Jitter:          rand.Int64N,
	}
}

func (c Config) rings() hub.Config {
	return hub.Config{
		RingMessages: c.RingMessages, RingBytes: c.RingBytes, SlotBytes: c.RingTotal / slots,
		Linger: c.Linger, Lingering: c.Lingering,
	}
}
