package session

import (
	"time"

	"github.com/comet-push/comet/bayeux"
)

// New makes the session for a handshake; Handshake comes next. cfg is what
// Config.Defaults returned. id is the
// clientId, a secret; publicID names the session to backends; user is empty if
// nobody authenticated.
func New(cfg *Config, id, publicID, user string, now time.Time) *Session { panic("not yet") }

// Route says whom a request is for. A request with a handshake in it is for a
// new session's Handshake, any other for the session with the clientId that is
// named first. If there is none, or the session is unknown, Unknown has the
// body of the answer, with status 200.
func Route(in []bayeux.Message) (clientID string, handshake bool) { panic("not yet") }

// Unknown returns the body that answers messages without a session.
func Unknown(cfg *Config, now time.Time, in []bayeux.Message) []byte { panic("not yet") }

// Handshake answers a request that has a handshake in it. The other messages
// are refused. If the handshake is refused, Effects.Ended is Refused and the
// session is to be thrown away.
func (s *Session) Handshake(now time.Time, r Request, out *Effects) {}

// Receive takes a request of this session.
func (s *Session) Receive(now time.Time, r Request, out *Effects) {}

// Subscribed answers an Interest: err, or that everything on the channel after
// the positions will be delivered from now on. A literal channel has one
// position; a pattern has one per slot, or none if nothing that was appended
// before this call will be delivered through it. The session keeps from.
func (s *Session) Subscribed(now time.Time, token uint64, from []Position, err *bayeux.Error, out *Effects) {
}

// Published answers a Publish: err, or that it is committed.
func (s *Session) Published(now time.Time, token uint64, err *bayeux.Error, out *Effects) {}

// Replayed answers a Replay.
func (s *Session) Replayed(now time.Time, token uint64, page Page, err *bayeux.Error, out *Effects) {}

// Deliver gives the session an entry that matches one of its interests, via.
// Entries of one slot come in the order of their offsets; an entry that
// matches several interests may be given once for each.
func (s *Session) Deliver(now time.Time, via string, e *Event, out *Effects) {}

// Send queues a message for this session alone, whatever it is subscribed to:
// one made by NewMessage.
func (s *Session) Send(now time.Time, e *Event, out *Effects) {}

// Resync tells the client that it has missed entries of a channel or pattern
// it is subscribed to.
func (s *Session) Resync(now time.Time, channel string, out *Effects) {}

// Tick says that Deadline may have come.
func (s *Session) Tick(now time.Time, out *Effects) {}

// Lost says that the peer of an exchange vanished, or that writing its answer failed.
func (s *Session) Lost(now time.Time, ex Exchange, out *Effects) {}

// Written says that the answer of an exchange was written.
func (s *Session) Written(now time.Time, ex Exchange, out *Effects) {}

// Drain sends the client away: a held connect is answered, and no further one
// is held. The client is asked to come back after the interval.
func (s *Session) Drain(now time.Time, interval time.Duration, out *Effects) {}

// End ends the session. A held connect tells the client, which then does not
// come back by itself; otherwise its next message is answered 402.
func (s *Session) End(now time.Time, reason Reason, out *Effects) {}

// Deadline is when Tick is due; zero: never.
func (s *Session) Deadline() time.Time { panic("not yet") }

// ID, PublicID and User are what New was given.
func (s *Session) ID() string       { panic("not yet") }
func (s *Session) PublicID() string { panic("not yet") }
func (s *Session) User() string     { panic("not yet") }

// Channels returns what the client is subscribed to, sorted.
func (s *Session) Channels() []string { panic("not yet") }

// Holding reports whether a connect is held.
func (s *Session) Holding() bool { panic("not yet") }

// NewEvent makes the event of a log entry. It keeps data, ext and members.
// appended is when, if known.
func NewEvent(channel string, at Position, data, ext, members []byte, appended time.Time) *Event {
	panic("not yet")
}

// NewMessage makes a message for Send. With id it answers the message of that
// id (a remote call), and failed says whether the call failed.
func NewMessage(channel string, data, ext []byte, id string, failed bool) *Event { panic("not yet") }

func (e *Event) JSON() []byte   { panic("not yet") }
func (e *Event) Replay() []byte { panic("not yet") }
func (e *Event) Size() int      { panic("not yet") }

// Session is one Bayeux client.
type Session struct{}

// Event is a message on its way to sessions, encoded once for all of them.
type Event struct{}
