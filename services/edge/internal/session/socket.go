package session

import (
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Socket is the WebSocket that events go to, 0 if they go with the answers to
// connects.
func (s *Session) Socket() uint64 { return s.socket }

// Unbind says that a socket is gone. A connect that was held on it is lost, and
// so are the answers that its frames await.
func (s *Session) Unbind(now time.Time, socket uint64, out *Effects) {
	if s.ended() || socket == 0 {
		return
	}
	for r := s.requests; r != nil; r = r.next {
		r.lost = r.lost || r.socket == socket
	}
	if s.socket != socket {
		return
	}
	s.bind(0, out)
	if s.connect.socket && s.connect.state != over {
		s.startClock(now)
	}
}

// Blocked says that a socket is full: events wait in the session, and the clock
// stands still, until Writable.
func (s *Session) Blocked(_ time.Time, socket uint64) {
	if s.ended() || socket == 0 || s.socket != socket {
		return
	}
	s.blocked = true
	if c := &s.connect; c.socket && c.state == over {
		c.state = answered
	}
}

// Writable says that nothing waits on a socket any more.
func (s *Session) Writable(now time.Time, socket uint64, out *Effects) {
	if s.ended() || socket == 0 || s.socket != socket {
		return
	}
	s.blocked = false
	s.passOn(now)
	s.release(now, out)
	s.ping(now, out)
}

// bind lets events go to a socket, or with the answers to connects.
func (s *Session) bind(socket uint64, out *Effects) {
	if s.socket == socket {
		return
	}
	if s.socket != 0 && !s.ack { // what was on its way may be lost
		for _, sub := range s.subs {
			sub.gap = sub.gap || s.replay
		}
		s.strayRosters(out)
		s.recall()
	}
	s.socket, s.blocked, s.stale = socket, false, 0
}

// homeless reports whether events have no place to go to, so that the next
// frame decides: no connect has come yet, or its socket is gone.
func (s *Session) homeless() bool {
	return s.socket == 0 && (s.transport == noTransport || s.connect.socket)
}

// passOn starts the clock behind an answer that went to a socket: nobody
// reports that it was written.
func (s *Session) passOn(now time.Time) {
	if s.connect.socket && s.connect.state == answered && !s.blocked {
		s.startClock(now)
	}
}

// pushing reports whether events are pushed. With the ack extension they are
// not: a batch is a connect's answer. Nor are they when the socket is to be closed.
func (s *Session) pushing() bool { return s.socket != 0 && !s.ack && !s.draining }

// push pushes the events that wait, unless the socket is full.
func (s *Session) push(now time.Time, out *Effects) {
	switch {
	case !s.pushing() || s.fresh.events == 0:
		return
	case s.blocked:
		if s.stale == 0 {
			s.stale = s.since(now.Add(s.cfg.QueueAge))
		}
		return
	}
	ping := s.nextPing()
	for n := range s.log {
		if i := &s.log[n]; i.batch == 0 && !i.event.Notice() {
			s.emit(i.event, out)
			i.batch, i.pushed = ping, true
		}
	}
	s.discard(func(i item) bool { return i.pushed && isRoster(i.event) }) // these are told anew instead
	s.spill()
	s.ping(now, out)
	s.pump(out)
}

// pushOne pushes an event when nothing waits.
func (s *Session) pushOne(now time.Time, e *event.Event, out *Effects) {
	s.emit(e, out)
	if isRoster(e) {
		return
	}
	s.log = append(s.log, item{event: e, batch: s.nextPing(), pushed: true})
	s.sent.add(e)
	s.spill()
	s.ping(now, out)
}

func (s *Session) emit(e *event.Event, out *Effects) {
	out.Pushes.Socket, out.Pushes.As = s.socket, event.BayeuxText
	if s.replay {
		out.Pushes.As = event.ReplayText
	}
	out.Pushes.add(e)
}

func transportOf(r Request, m *bayeux.Message) transport {
	switch {
	case r.Socket != 0:
		return webSocket
	case m.ConnectionType == bayeux.CallbackPolling:
		return callbackPolling
	}
	return longPolling
}
