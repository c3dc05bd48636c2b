package session

import (
	"math"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// Deadline is when Tick is due; zero: never.
func (s *Session) Deadline() time.Time {
	due := s.stale
	if s.awaitsPing() {
		if ping := s.pings.due + pingLate; due == 0 || ping < due {
			due = ping
		}
	}
	if state := s.connect.state; (state == held || state == over) && (due == 0 || s.connect.due < due) {
		due = s.connect.due
	}
	if s.ended() || due == 0 {
		return time.Time{}
	}
	return s.at(due)
}

// Tick says that Deadline may have come.
func (s *Session) Tick(now time.Time, out *Effects) {
	if s.ended() {
		return
	}
	at := s.since(now)
	if s.stale != 0 && at >= s.stale {
		s.expireQueue(now, out)
	}
	s.ping(now, out)
	switch c := &s.connect; {
	case c.state == held && at >= c.due:
		s.answerConnect(now, out)
	case c.state == over && at >= c.due:
		s.close(now, Expired, nil, out)
	}
}

// Hurry answers the connect of an exchange if it is held: whoever keeps that
// exchange leaves.
func (s *Session) Hurry(now time.Time, ex Exchange, out *Effects) {
	if s.connect.state == held && s.connect.exchange == ex {
		s.answerConnect(now, out)
	}
}

// Await gives a client longer until its next connect: it may not have noticed yet
// that nobody waits for its last one any more.
func (s *Session) Await(now time.Time, longer time.Duration) {
	if s.connect.state == over {
		s.connect.due = max(s.connect.due, s.since(now.Add(longer)))
	}
}

// Beat is the time for a sign of life over the socket. It answers a connect held
// there that is due before the next such time, or sends a ping again that is not
// answered, and reports whether there was one.
func (s *Session) Beat(now, next time.Time, out *Effects) bool {
	c := &s.connect
	if s.ended() || c.state != held || !c.socket || c.due > s.since(next) {
		return s.pingAgain(out)
	}
	s.answerConnect(now, out)
	return true
}

// touch keeps the session alive because of a message other than a connect.
func (s *Session) touch(now time.Time) {
	if s.connect.state == over {
		s.connect.due = max(s.connect.due, s.since(now.Add(s.cfg.MaxInterval)))
	}
}

// startClock starts the clock that only the next connect stops.
func (s *Session) startClock(now time.Time) {
	s.connect.state = over
	s.connect.due = s.since(now.Add(s.connect.interval + s.cfg.MaxInterval))
}

// Written says that the answer of an exchange was written.
func (s *Session) Written(now time.Time, ex Exchange, out *Effects) {
	if s.ended() {
		return
	}
	s.returned(ex)
	if ex == s.connect.exchange && s.connect.state == answered {
		s.startClock(now)
	}
	s.leave(now, out)
}

// Lost says that the peer of an exchange vanished, or that writing its answer
// failed.
func (s *Session) Lost(now time.Time, ex Exchange, out *Effects) {
	if s.ended() {
		return
	}
	for r := s.requests; r != nil; r = r.next {
		if r.exchange == ex {
			r.lost = true
		}
	}
	lost := s.returned(ex)
	if ex == s.connect.exchange && s.connect.state != over {
		if s.connect.state == answered {
			lost = s.connect.batch
		}
		s.startClock(now)
	}
	if lost != 0 && !s.ack {
		s.refresh(func(batch uint32) bool { return batch == lost })
	}
	s.release(now, out)
}

// maxFarewells is how often a client is told to go away. One that is published
// to all the time would be owed something each time.
const maxFarewells = 3

// stays is the number of farewells of a session that does not end by itself.
const stays = math.MaxUint8

// leave ends a session that drains, once its client knows and is owed nothing:
// if it were answered at once whenever it asked, it would ask again and again.
func (s *Session) leave(now time.Time, out *Effects) {
	told := s.farewells > 0 && s.connect.state == over && s.requests == nil
	owed := len(s.log) > 0 || s.catching > 0 || s.regain != nil
	if told && s.farewells != stays && (!owed || s.farewells >= maxFarewells) {
		s.close(now, Drained, nil, out)
	}
}

// Drain sends the client away: a held connect is answered, and no further one
// is held. The client is asked to come back after the interval. Unless it came
// over a socket, or goes on elsewhere (moves), the session ends when the client was
// told and is owed nothing, at the latest when it was told a few times.
func (s *Session) Drain(now time.Time, interval time.Duration, moves bool, out *Effects) {
	s.draining, s.drain = true, uint32(min(interval.Milliseconds(), math.MaxUint32))
	if moves {
		s.farewells = stays
	}
	if s.connect.state == held {
		s.answerConnect(now, out)
	}
	s.ping(now, out)
}

// Draining reports whether the client is sent away.
func (s *Session) Draining() bool { return s.draining }

func (s *Session) drainInterval() time.Duration { return time.Duration(s.drain) * time.Millisecond }

// End ends the session. After Evicted a client whose connect is held stops for
// good; otherwise its next message is answered 402.
func (s *Session) End(now time.Time, reason Reason, out *Effects) {
	if !s.ended() {
		s.close(now, reason, nil, out)
	}
}

// close ends the session; by is the request that asked for it, if any, and is
// left to be answered.
func (s *Session) close(now time.Time, reason Reason, by *request, out *Effects) {
	if s.connect.state == held {
		s.free(now, reason, out)
	}
	s.setReason(reason)
	out.Ended = s.Ended()
	s.regain = nil
	for len(s.subs) > 0 {
		s.remove(s.subs[len(s.subs)-1], true, out)
	}
	for r := s.requests; r != nil; r = r.next {
		if r != by && !r.done {
			s.giveUp(now, r, out)
		}
	}
	s.forget()
}

// forget lets go of what a session has that has ended.
func (s *Session) forget() {
	s.subs, s.log, s.seen, s.requests, s.regain, s.pings = nil, nil, nil, nil, nil, nil
	s.fresh, s.sent, s.catching = tally{}, tally{}, 0
	s.connect.state = over
}

// free answers the held connect of a session that ends.
func (s *Session) free(now time.Time, reason Reason, out *Effects) {
	switch reason {
	case Drained:
		s.answerWith(now, nil, s.advice(max(s.drainInterval(), s.cfg.Interval)), out)
	case Evicted:
		ok := true
		goodbye := bayeux.Message{Channel: bayeux.Disconnect, Successful: &ok}
		s.answerWith(now, append(appendReply(nil, now, &goodbye), ','), s.stop(), out)
	default:
		s.answerWith(now, nil, s.stop(), out)
	}
}

// giveUp answers a request of a session that has ended. What was begun may
// still come to be; what was not begun never will.
func (s *Session) giveUp(now time.Time, r *request, out *Effects) {
	for i := range r.replies {
		switch m := &r.messages[i]; {
		case r.replies[i].text != nil || i < r.begun && m.Channel == bayeux.Connect:
		case i < r.begun:
			s.reply(now, waiter{r, i}, bayeux.Unavailable())
		default:
			r.replies[i].text = unknown(s.cfg, now, m)
		}
	}
	s.finish(now, r, out)
}
