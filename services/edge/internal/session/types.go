package session

import (
	"iter"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Config is shared by all sessions of an edge and must not change. Defaults
// fills in what stands in brackets.
type Config struct {
	// Origin is when time begins for the sessions, before any call of one. With
	// what time.Now returned their clocks are monotonic [1970].
	Origin time.Time
	// ConnectionTypes is what handshake replies offer [long-polling].
	ConnectionTypes []string
	// Timeout is how long a connect is held [30 s].
	Timeout time.Duration
	// MaxTimeout bounds the timeout and interval a client may ask for [5 min].
	MaxTimeout time.Duration
	// Interval is the pause asked of clients between connects.
	Interval time.Duration
	// MaxInterval is how long a session lives without a connect, beyond
	// Interval [10 s].
	MaxInterval time.Duration
	// AdviseMaxInterval tells clients MaxInterval in advice.
	AdviseMaxInterval bool
	// MultiInterval is the pause asked of a client whose connect was not held
	// because of Request.NoHold [2 s].
	MultiInterval time.Duration
	// Gather is how long a held connect waits for further losses before it is
	// answered with one: a broker that leaves takes many slots with it [250 ms].
	Gather time.Duration

	// QueueMessages and QueueBytes bound what waits for the client; what was
	// sent and is not confirmed may be as much again [1000, 1 MiB].
	QueueMessages int
	QueueBytes    int // 512 MiB at most
	// QueueAge is how long events may wait for a socket that takes nothing;
	// then they are dropped, and the client is told [30 s].
	QueueAge time.Duration
	// Slow returns the policy of a literal channel, for events that have to
	// wait behind others [Recover].
	Slow func(channel string) Policy
	// Subscriptions bounds the channels and patterns of a session [1000].
	Subscriptions int
	// Exchanges bounds the unanswered requests of a session; further ones are
	// answered 429 [64].
	Exchanges int

	// Piggyback lets events travel on every answer, not only on those to
	// connects. In effect only while connects come by long-polling, and never
	// for sessions with the ack extension.
	Piggyback bool

	// Jitter returns a random number from 0 to n-1 [n/2].
	Jitter func(n int64) int64
	// MaySubscribe returns nil, or why the user may not subscribe to the
	// channel or pattern [everyone may].
	MaySubscribe func(user, channel string) *bayeux.Error
	// MayPublish does so for publishing size bytes of data [everyone may].
	MayPublish func(user, channel string, size int) *bayeux.Error
}

// Policy is what becomes of the events of a channel that wait for a slow client.
type Policy uint8

// The policies.
const (
	// Recover drops the queue when it is full, and has the client told which
	// subscriptions lost something.
	Recover Policy = iota
	// DropOldest drops the oldest events of such channels when the queue is
	// full.
	DropOldest
	// Conflate lets an event take the place of the one that waits on its
	// channel, at the end of the queue. History is not conflated. A full queue
	// is dropped as with Recover.
	Conflate
)

// Defaults returns a copy in which fields that are zero have their default.
func (c Config) Defaults() *Config {
	if c.Origin.IsZero() {
		c.Origin = time.Unix(0, 0)
	}
	if len(c.ConnectionTypes) == 0 {
		c.ConnectionTypes = []string{bayeux.LongPolling}
	}
	orDuration(&c.Timeout, 30*time.Second)
	orDuration(&c.MaxTimeout, 5*time.Minute)
	orDuration(&c.MaxInterval, 10*time.Second)
	orDuration(&c.MultiInterval, 2*time.Second)
	orDuration(&c.Gather, 250*time.Millisecond)
	orInt(&c.QueueMessages, 1000)
	orInt(&c.QueueBytes, 1<<20)
	c.QueueBytes = min(c.QueueBytes, 1<<29)
	orDuration(&c.QueueAge, 30*time.Second)
	if c.Slow == nil {
		c.Slow = func(string) Policy { return Recover }
	}
	orInt(&c.Subscriptions, 1000)
	orInt(&c.Exchanges, 64)
	if c.Jitter == nil {
		c.Jitter = func(n int64) int64 { return n / 2 }
	}
	if c.MaySubscribe == nil {
		c.MaySubscribe = func(string, string) *bayeux.Error { return nil }
	}
	if c.MayPublish == nil {
		c.MayPublish = func(string, string, int) *bayeux.Error { return nil }
	}
	return &c
}

func orDuration(d *time.Duration, fallback time.Duration) {
	if *d <= 0 {
		*d = fallback
	}
}

func orInt(n *int, fallback int) {
	if *n <= 0 {
		*n = fallback
	}
}

// Exchange is the shell's number for one HTTP request, or one frame of a
// socket, that awaits its answer. It is never 0 and never used twice in a
// session.
type Exchange uint64

// Request is all that came in one HTTP request or one frame. The messages and
// what they point to belong to the session from now on.
type Request struct {
	Exchange Exchange
	// Socket is the WebSocket of the frame, 0: an HTTP request. Numbers are
	// never used twice.
	Socket uint64
	// Messages has at least one element.
	Messages []bayeux.Message
	// NoHold says, of HTTP requests, that this browser has as many held connects as it may, not
	// counting this session's: a connect that would be held is answered at
	// once with the advice multiple-clients.
	NoHold bool
	// Repeated says that the session may have taken this request before, on an edge
	// that is lost: a connect that has no id does not show that itself.
	Repeated bool
}

// Effects is what a call asks the shell to do. The caller owns it; Reset makes
// it ready for the next call. Calls only append.
type Effects struct {
	// Answers end exchanges. They are to be written in this order.
	Answers []Answer
	// Pushes are events to be sent on the session's socket, after Answers.
	Pushes Pushes
	// Held is the HTTP exchange whose connect began to be held in this call, or 0.
	// Its Answer, or Lost, ends the hold.
	Held Exchange
	// Interests are changes of what the session must be given by Deliver, in order.
	Interests []Interest
	// Publishes go to the brokers, in this order.
	Publishes []Publish
	// Replays ask for history.
	Replays []Replay
	// Places are patterns, with the tokens of their Interests, that have joined:
	// Subscribed is to be called for each again, with its positions.
	Places []Interest
	// Joined and Left are the channels and patterns that the client is now
	// subscribed to, or no longer, for presence. One that is in both has left.
	Joined []string
	Left   []string
	// Stray are rosters (see Tell) of which news were lost: they are to be told
	// whole.
	Stray []string
	// Carried answers calls of Enlist, each once; those that are open when the
	// session ends are not answered.
	Carried []Carried
	// Dropped counts events that the client will not get.
	Dropped Dropped
	// Ended says why the session is over, else it is empty. Interests then has
	// a Leave for all it had, and every exchange has its answer. Further calls
	// do nothing, but Receive answers 402.
	Ended Reason
}

// Reason says why a session ended.
type Reason string

// The reasons.
const (
	Disconnected Reason = "disconnect" // the client said so
	Expired      Reason = "expired"    // no connect came in time
	Refused      Reason = "refused"    // the handshake was refused; it never was a session
	Drained      Reason = "drained"    // the edge stops
	Evicted      Reason = "evicted"    // the server wanted it
	Moved        Reason = "moved"      // it goes on elsewhere; nobody is told of an end
)

// Pushes are events for one socket, in order, each a frame of its own. The
// first costs no allocation.
type Pushes struct {
	// Socket is where they go, 0 if there are none.
	Socket uint64
	// As is the encoding that the session wants.
	As event.Encoding
	// Ping is the number of a ping to be sent behind them, 0: none. Pong is to be
	// told of its pong.
	Ping byte

	first *event.Event
	more  []*event.Event
}

// Len is how many there are.
func (p *Pushes) Len() int {
	if p.first == nil {
		return 0
	}
	return 1 + len(p.more)
}

// All iterates over the events.
func (p *Pushes) All() iter.Seq[*event.Event] {
	return func(yield func(*event.Event) bool) {
		if p.first == nil || !yield(p.first) {
			return
		}
		for _, e := range p.more {
			if !yield(e) {
				return
			}
		}
	}
}

func (p *Pushes) add(e *event.Event) {
	if p.first == nil {
		p.first = e
		return
	}
	p.more = append(p.more, e)
}

// Dropped counts events that were dropped, by reason.
type Dropped struct {
	Overflow  int // the queue was full; the client is told
	Oldest    int // the queue was full and the policy is DropOldest
	Conflated int // a newer one took its place; the policy is Conflate
	Age       int // the socket took nothing for too long; the client is told
}

// Total is the sum.
func (d Dropped) Total() int { return d.Overflow + d.Oldest + d.Conflated + d.Age }

// Answer is a whole HTTP response, or a frame.
type Answer struct {
	Exchange Exchange
	// Socket is where the body goes as a frame; 0: it ends the HTTP exchange.
	// The fate of a frame is not reported. The exchange of a frame may have two
	// answers, if a connect was among other messages, and has none for a
	// connect that a newer one replaced.
	Socket uint64
	// Status is 200, or 503 for a connect that a newer one replaced, or 429
	// for a request too many; only 200 has a body. On sockets it is 200.
	Status int
	// Body is a JSON array of messages. It belongs to the receiver.
	Body []byte
	// Events counts the events in the body, copies included.
	Events int
	// Newest is when the newest of them was appended, if known.
	Newest time.Time
	// Record says that what Resume returns from now on is to be recorded before the
	// answer goes out: then another edge will understand the client's ack of it.
	Record bool
}

// Interest is a channel or pattern the session wants to be given, or no more.
type Interest struct {
	// Token is to be given to Subscribed; 0 with Leave, and of a roster that is not
	// to be answered.
	Token   uint64
	Channel string
	// Leave ends the interest. It is not answered.
	Leave bool
}

// Publish is a message from the client.
type Publish struct {
	// Token is to be given to Published.
	Token uint64
	// Channel is literal, valid, and not under /meta.
	Channel string
	// Data is one JSON value, Ext a JSON object or nothing, Members further
	// members as "name":value pairs joined by commas.
	Data, Ext, Members []byte
	// Session and ID are set on /service channels only: the session's public
	// id and the text of the message's id.
	Session, ID string
}

// Replay asks for what is retained of some channels in one slot.
type Replay struct {
	// Token is to be given to Replayed.
	Token uint64
	Slot  shard.Slot
	// Channels are literal channels of the slot, and patterns.
	Channels []string
	// Since asks for everything after it; with Earliest, for all that is
	// retained.
	Since    uint64
	Earliest bool
	// Through is where the page should lead at least, unless the limit ends it.
	Through uint64
	// Limit is the most entries of use, at least 1.
	Limit int
}

// Page is a piece of the history of some channels in one slot.
type Page struct {
	// Events are all that is committed in (since, Through] of the channels that
	// have lost nothing, in order, each once.
	Events []*event.Event
	// Through is where to go on. It is below the Since of the Replay only if
	// that was no position of the log; then all channels are Lost.
	Through uint64
	// Lost are those of the channels, as they were asked for, of which a part
	// of (since, Through] is gone.
	Lost []string
}

// Reset empties the effects and keeps their memory.
func (e *Effects) Reset() {
	clear(e.Answers)
	clear(e.Pushes.more)
	clear(e.Interests)
	clear(e.Publishes)
	clear(e.Replays)
	clear(e.Places)
	clear(e.Joined)
	clear(e.Left)
	clear(e.Stray)
	clear(e.Carried)
	*e = Effects{
		Answers:   e.Answers[:0],
		Pushes:    Pushes{more: e.Pushes.more[:0]},
		Interests: e.Interests[:0],
		Publishes: e.Publishes[:0],
		Replays:   e.Replays[:0],
		Places:    e.Places[:0],
		Joined:    e.Joined[:0],
		Left:      e.Left[:0],
		Stray:     e.Stray[:0],
		Carried:   e.Carried[:0],
	}
}
