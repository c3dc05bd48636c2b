package session

import (
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Session is one Bayeux client. Very many of them wait at a time, so it is
// small: what few sessions have hangs on pointers.
type Session struct {
	cfg      *Config
	id       string
	publicID string
	user     string

	// What it listens to.
	subs []*subscription  // by channel
	seen []shard.Position // by slot: the last offset queued, or read
	// What it has to catch up with since it went on here; nil: nothing.
	regain *regain

	// What it is to be told.
	log   []item // sent and unconfirmed first, then fresh
	fresh tally  // of the items never sent, or to be sent again
	sent  tally  // of the others

	// Who waits for an answer.
	requests *request // the oldest of a list
	connect  connect

	// Where events go to.
	socket uint64        // 0: with the answers to connects
	pings  *pings        // nil: nothing was pushed over it
	stale  time.Duration // when events have waited too long for the socket, 0: none wait

	batch    uint32 // the last one sent
	drain    uint32 // with draining: the interval to advise, in ms
	token    uint32 // the last one given out
	catching int32  // subscriptions that read history

	transport transport // of the newest connect
	repeats   uint8     // answers sent again in a row
	farewells uint8     // answers to connects since it drains, up to maxFarewells; or stays
	reason    uint8     // of reasons: why it ended
	advise    bool      // the next connect's answer has advice
	ack       bool      // extensions that the handshake agreed on
	replay    bool
	draining  bool
	blocked   bool // the socket takes nothing
	unsure    bool // it was restored from a record, and no batch since is acknowledged
}

// transport is how a connect came.
type transport uint8

const (
	noTransport transport = iota
	longPolling
	callbackPolling
	webSocket
)

// New makes the session for a handshake; Handshake comes next. cfg is what
// Config.Defaults returned. id is the clientId, a secret; publicID names the
// session to backends; user is empty if nobody authenticated.
func New(cfg *Config, id, publicID, user string) *Session {
	return &Session{cfg: cfg, id: id, publicID: publicID, user: user}
}

// ID is the clientId.
func (s *Session) ID() string { return s.id }

// PublicID is the session's name among backends.
func (s *Session) PublicID() string { return s.publicID }

// User is who authenticated, or empty.
func (s *Session) User() string { return s.user }

// Transport is the connection type of the newest connect, empty before the
// first.
func (s *Session) Transport() string {
	switch s.transport {
	case longPolling:
		return bayeux.LongPolling
	case callbackPolling:
		return bayeux.CallbackPolling
	case webSocket:
		return bayeux.WebSocket
	default:
		return ""
	}
}

// Ended is why the session is over, or empty.
func (s *Session) Ended() Reason { return reasons()[s.reason] }

// ended reports whether the session is over.
func (s *Session) ended() bool { return s.reason != 0 }

// reasons are what Session.reason counts.
func reasons() [7]Reason {
	return [...]Reason{"", Disconnected, Expired, Refused, Drained, Evicted, Moved}
}

func (s *Session) setReason(reason Reason) {
	known := reasons()
	s.reason = uint8(max(slices.Index(known[:], reason), 1))
}

// Holding reports whether a connect is held.
func (s *Session) Holding() bool { return s.connect.state == held }

// Queued is how many events wait to be sent.
func (s *Session) Queued() int { return int(s.fresh.events) }

// Channels returns what the client is subscribed to, sorted.
func (s *Session) Channels() []string {
	channels := make([]string, 0, len(s.subs))
	for _, sub := range s.subs {
		if sub.state == active {
			channels = append(channels, sub.channel)
		}
	}
	return channels
}

// Deliver gives the session an entry that matches one of its interests, via.
// Entries of one slot come in the order of their offsets; an entry that
// matches several interests may be given once for each.
func (s *Session) Deliver(now time.Time, via string, e *event.Event, out *Effects) {
	sub := s.find(via)
	switch {
	case sub == nil:
		return
	case sub.state != active:
		sub.miss(e.At)
		return
	case s.regain != nil && s.regain.withhold(e.At):
		return
	case !s.wants(sub, e):
		return
	}
	s.see(e.At)
	if s.pushing() && !s.blocked { // so nothing waits
		s.pushOne(now, e, out)
		return
	}
	s.enqueue(s.conflate(e, out), out)
	s.release(now, out)
}

// Send queues a message for this session alone, whatever it is subscribed to:
// one made by NewMessage.
func (s *Session) Send(now time.Time, e *event.Event, out *Effects) {
	if s.ended() {
		return
	}
	s.enqueue(item{event: e}, out)
	s.release(now, out)
}

// Resync tells the client that it has missed entries of a channel or pattern
// it is subscribed to, within Config.Gather: losses come in droves.
func (s *Session) Resync(now time.Time, channel string) {
	sub := s.find(channel)
	switch {
	case sub == nil:
		return
	case sub.state == active:
		s.notice(channel)
		s.releaseSoon(now)
	default: // nothing is owed yet, except to one that reads history
		sub.gap = true
		if sub.past != nil {
			sub.past.gap = true
		}
	}
}

// wants reports whether an entry is to be delivered through a subscription.
func (s *Session) wants(sub *subscription, e *event.Event) bool {
	if s.replay {
		if own := s.find(e.Channel); own != nil && own.state == active && own.past != nil && !own.past.passes(e.At.Offset) {
			return false
		}
	}
	if e.At.Offset <= sub.startIn(e.At.Slot) {
		return false
	}
	i, known := s.slot(e.At.Slot)
	return !known || e.At.Offset > s.seen[i].Offset
}

// see notes that an entry has been queued.
func (s *Session) see(at shard.Position) {
	i, known := s.slot(at.Slot)
	if !known {
		s.seen = slices.Insert(s.seen, i, at)
		return
	}
	s.seen[i].Offset = at.Offset
}

func (s *Session) slot(slot shard.Slot) (int, bool) {
	return slices.BinarySearchFunc(s.seen, slot, func(p shard.Position, slot shard.Slot) int {
		return int(p.Slot) - int(slot)
	})
}

// find returns the subscription to exactly this channel or pattern, or nil.
func (s *Session) find(channel string) *subscription {
	if i, ok := s.search(channel); ok {
		return s.subs[i]
	}
	return nil
}

func (s *Session) search(channel string) (int, bool) {
	return slices.BinarySearchFunc(s.subs, channel, func(sub *subscription, channel string) int {
		return strings.Compare(sub.channel, channel)
	})
}

// matching calls fn with every active subscription that matches a channel.
func (s *Session) matching(channel string, fn func(*subscription)) {
	for _, sub := range s.subs {
		if sub.state == active && bayeux.Match(sub.channel, channel) {
			fn(sub)
		}
	}
}

func (s *Session) nextToken() uint64 {
	s.token++
	return uint64(s.token)
}

// since is now as sessions count time; it is never 0.
func (s *Session) since(now time.Time) time.Duration {
	return max(now.Sub(s.cfg.Origin), 0) + 1
}

// at is the reverse of since.
func (s *Session) at(since time.Duration) time.Time { return s.cfg.Origin.Add(since - 1) }
