package session

import (
	"slices"
	"time"

	"github.com/comet-push/comet/services/edge/internal/event"
)

// policy is that of an item's channel; it is asked for once. Messages for this
// session alone are never shed: nothing else would bring them.
func (s *Session) policy(i *item) Policy {
	if i.slow == 0 {
		p := Recover
		if i.event.At.Offset != 0 {
			p = s.cfg.Slow(i.event.Channel)
		}
		i.slow = asked(p) + 1
	}
	return Policy(i.slow - 1)
}

// conflate makes the item of an event that was pushed. It takes the place of
// those that wait on its channel if the policy says so.
func (s *Session) conflate(e *event.Event, out *Effects) item {
	i := item{event: e}
	if s.fresh.events == 0 || s.policy(&i) != Conflate {
		return i
	}
	read := uint64(0) // history up to here, which the client asked for
	if own := s.find(e.Channel); own != nil && own.past != nil {
		read = own.past.cursor
	}
	s.shed(&out.Dropped.Conflated, func(older *item) bool {
		return older.event.Channel == e.Channel && older.event.At.Offset > read
	})
	return i
}

// makeRoom has an item fit, or reports that the item itself was dropped.
func (s *Session) makeRoom(i *item, out *Effects) bool {
	full := true
	s.shed(&out.Dropped.Oldest, func(older *item) bool {
		full = full && s.full(i.event)
		return full && s.policy(older) == DropOldest
	})
	switch {
	case !s.full(i.event):
		return true
	case s.policy(i) == DropOldest: // others do not lose their place to it
		out.Dropped.Oldest++
		s.pass(i.event.Channel)
		return false
	}
	return s.overflow(i.event, out)
}

// shed drops fresh entries and counts them; the client is not told.
func (s *Session) shed(count *int, drop func(*item) bool) {
	kept := s.log[:0]
	for n := range s.log {
		i := &s.log[n]
		if i.batch == 0 && i.event.At.Offset != 0 && drop(i) {
			s.fresh.remove(i.event)
			s.pass(i.event.Channel)
			*count++
			continue
		}
		kept = append(kept, *i)
	}
	clear(s.log[len(kept):])
	s.log = kept
}

// pass notes that an entry of a channel was not delivered, so that history that
// the client asks for later has it.
func (s *Session) pass(channel string) {
	if s.replay {
		s.matching(channel, func(sub *subscription) { sub.gap = true })
	}
}

// overflow drops what is fresh, and what was sent if that does not make room
// for an event, and has the client told what it lost. It reports whether there
// is room.
func (s *Session) overflow(e *event.Event, out *Effects) bool {
	var l losses
	s.discard(func(i item) bool { return i.batch == 0 && l.add(i.event) })
	if s.full(e) {
		s.discard(func(i item) bool { return i.batch != 0 && l.add(i.event) })
	}
	fits := !s.full(e)
	if !fits {
		l.add(e)
	}
	out.Dropped.Overflow += l.events
	s.tell(&l)
	return fits
}

// expireQueue drops what has waited too long for the socket, and has the client
// told what it lost.
func (s *Session) expireQueue(now time.Time, out *Effects) {
	var l losses
	s.discard(func(i item) bool { return i.batch == 0 && l.add(i.event) })
	out.Dropped.Age += l.events
	s.tell(&l)
	s.release(now, out)
}

// losses are events that the client is to be told of.
type losses struct {
	events   int
	channels map[string]bool
	direct   []string // channels of messages for this session alone
}

// add adds an event; notices it leaves alone, and reports so.
func (l *losses) add(e *event.Event) bool {
	if e.Notice() {
		return false
	}
	if l.channels == nil {
		l.channels = map[string]bool{}
	}
	l.events++
	l.channels[e.Channel] = true
	if e.At.Offset == 0 && !slices.Contains(l.direct, e.Channel) {
		l.direct = append(l.direct, e.Channel)
	}
	return true
}

// tell leaves notices for all that is lost.
func (s *Session) tell(l *losses) {
	for _, sub := range s.subs {
		if sub.state == active && sub.lost(l.channels) {
			s.notice(sub.channel)
		}
	}
	for _, channel := range l.direct {
		s.notice(channel)
	}
}
