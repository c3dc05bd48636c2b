package session

import (
	"slices"
	"time"

	"github.com/comet-push/comet/services/edge/internal/event"
)

const (
	// pingAfter is when the client is asked, at the earliest, whether what was
	// pushed has arrived, unless there is very much of that.
	pingAfter = time.Second
	// pingSpread is how much later that may be: many are pushed the same event at a
	// time, and their pongs are not to come while others still wait for it.
	pingSpread = time.Second
	// pingLate is how much longer a ping waits for something to go with.
	pingLate = 500 * time.Millisecond
)

// pings is how a session knows what has arrived of what it pushed: what went before
// a ping is confirmed by its pong. There is one ping at a time.
type pings struct {
	count uint32        // the number of the last one; what is pushed is marked with the next
	open  bool          // it is not answered
	due   time.Duration // when the next may be sent, 0: not drawn
	spilt []string      // of which something was let go of unconfirmed: there was no room
	until uint32        // the ping behind the last of that
}

// number is what a ping has on the wire, and its pong.
func (p *pings) number() byte { return byte((p.count-1)%255) + 1 }

// Pong says that a client has answered a ping, and so has all that was pushed
// before it.
func (s *Session) Pong(now time.Time, socket uint64, number byte, out *Effects) {
	p := s.pings
	if s.ended() || s.socket != socket || p == nil || !p.open || number != p.number() {
		return
	}
	p.open = false
	if p.until <= p.count {
		p.spilt = nil
	}
	s.discard(func(i item) bool { return i.pushed && i.batch <= p.count })
	s.ping(now, out)
}

// ping asks whether what was pushed has arrived, if it is time to.
func (s *Session) ping(now time.Time, out *Effects) {
	p := s.pings
	if !s.awaitsPing() {
		return
	}
	at := s.since(now)
	if p.due == 0 {
		p.due = at + pingAfter + time.Duration(s.cfg.Jitter(int64(pingSpread)))
	}
	much := int(s.sent.events) > s.cfg.QueueMessages/2 || int(s.sent.bytes) > s.cfg.QueueBytes/2
	if at >= p.due || much || s.draining {
		p.count++
		p.open, p.due = true, 0
		out.Pushes.Socket, out.Pushes.Ping = s.socket, p.number()
	}
}

// Unconfirmed reports whether it is not known of something that was pushed over the
// socket whether it has arrived.
func (s *Session) Unconfirmed() bool { return s.pings != nil && s.sent.events > 0 }

// awaitsPing reports whether there is to be another ping.
func (s *Session) awaitsPing() bool {
	return s.Unconfirmed() && !s.pings.open && !s.blocked
}

// pingAgain sends the ping again that is not answered, or reports that there is
// none: of two pings peers may answer the newer one alone (RFC 6455, 5.5.3).
func (s *Session) pingAgain(out *Effects) bool {
	if s.pings == nil || !s.pings.open {
		return false
	}
	out.Pushes.Socket, out.Pushes.Ping = s.socket, s.pings.number()
	return true
}

// nextPing is the number of the ping behind what is pushed now.
func (s *Session) nextPing() uint32 {
	if s.pings == nil {
		s.pings = &pings{}
	}
	return s.pings.count + 1
}

// spill lets go of the oldest of what is unconfirmed if that is too much.
func (s *Session) spill() {
	messages, bytes := int32(s.cfg.QueueMessages), int32(s.cfg.QueueBytes)
	if s.sent.events <= messages && s.sent.bytes <= bytes {
		return
	}
	p, left := s.pings, s.sent
	var l losses
	s.discard(func(i item) bool {
		if !i.pushed || left.events <= messages/2 && left.bytes <= bytes/2 {
			return false
		}
		left.remove(i.event)
		l.add(i.event)
		p.until = i.batch
		return true
	})
	for _, channel := range s.concerned(&l) {
		if !slices.Contains(p.spilt, channel) {
			p.spilt = append(p.spilt, channel)
		}
	}
}

// recall has what was pushed and is not confirmed sent again, since its socket is
// gone; of what was let go of the client is told.
func (s *Session) recall() {
	p := s.pings
	if p == nil {
		return
	}
	s.pings = nil
	for n := range s.log {
		if i := &s.log[n]; i.pushed {
			i.batch, i.pushed = 0, false
		}
	}
	s.discard(func(item) bool { return false })
	for _, channel := range p.spilt {
		s.notice(channel)
	}
}

// spilled are notices of what recall would tell of.
func (s *Session) spilled() (notices []Item) {
	if s.pings == nil {
		return nil
	}
	for _, channel := range s.pings.spilt {
		notices = append(notices, Item{Event: event.NewNotice(channel)})
	}
	return notices
}
