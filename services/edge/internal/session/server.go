package session

import (
	"time"

	"github.com/comet-push/comet/bayeux"
)

// Order is the shell's number for subscriptions that a backend wants a session
// to have. It is never 0.
type Order uint64

// Carried answers a call of Enlist: err, or that the subscriptions stand.
type Carried struct {
	Order Order
	Err   *bayeux.Error
}

// Enlist subscribes the client to channels and patterns without its asking, all
// of them or none; nobody is asked whether it may. Effects.Carried says how it
// went, now or later, unless the session ends before. From then on the
// subscriptions are like others.
func (s *Session) Enlist(now time.Time, order Order, channels []string, out *Effects) {
	if s.ended() {
		return
	}
	if !s.hasRoom(channels) {
		out.Carried = append(out.Carried, Carried{order, bayeux.LimitExceeded("subscriptions")})
		return
	}
	w := waiter{request: &request{
		order:    order,
		messages: []bayeux.Message{{Channel: bayeux.Subscribe, Subscription: &bayeux.Subscription{Channels: channels}}},
		replies:  make([]reply, 1),
	}}
	if s.enter(w, nil, out); w.reply().waits > 0 {
		return
	}
	s.activate(w, out)
	s.resolve(now, w, nil, out)
	s.pump(out)
}

// Withdraw ends subscriptions without the client's asking, or telling it.
func (s *Session) Withdraw(now time.Time, channels []string, out *Effects) {
	s.leaveAll(now, channels, out)
	s.pump(out) // less may have to be read first
}

// Resumable reports whether the session can go on elsewhere, or over another
// connection, without a loss of what is on its way.
func (s *Session) Resumable() bool { return s.ack || s.transport != webSocket }
