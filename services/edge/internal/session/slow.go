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
// the one that waits on its channel if the policy says so.
func (s *Session) conflate(e *event.Event, out *Effects) item {
	made := item{event: e}
	if s.fresh.events == 0 || s.policy(&made) != Conflate {
		return made
	}
	read := uint64(0) // history up to here, which the client asked for
	if own := s.find(e.Channel); own != nil && own.past != nil {
		read = own.past.cursor
	}
	for n := len(s.log) - 1; n >= 0; n-- { // a busy channel's is near the end
		i := &s.log[n]
		if i.event.At.Offset == 0 || i.event.Channel != e.Channel {
			continue
		}
		if i.batch == 0 && i.event.At.Offset > read {
			s.shed(n)
			out.Dropped.Conflated++
		}
		break
	}
	return made
}

// makeRoom has an item fit, or reports that the item itself was dropped.
func (s *Session) makeRoom(made *item, out *Effects) bool {
	for n := 0; n < len(s.log) && s.full(made.event); {
		if i := &s.log[n]; i.batch != 0 || s.policy(i) != DropOldest {
			n++
			continue
		}
		s.shed(n)
		out.Dropped.Oldest++
	}
	switch {
	case !s.full(made.event):
		return true
	case s.policy(made) == DropOldest: // others do not lose their place to it
		s.pass(made.event.Channel)
		out.Dropped.Oldest++
		return false
	}
	return s.overflow(made.event, out)
}

// shed drops a fresh event; the client is not told.
func (s *Session) shed(n int) {
	e := s.log[n].event
	s.log = slices.Delete(s.log, n, n+1)
	s.fresh.remove(e)
	s.pass(e.Channel)
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
	s.tell(&l, out)
	return fits
}

// expireQueue drops what has waited too long for the socket, and has the client
// told what it lost.
func (s *Session) expireQueue(now time.Time, out *Effects) {
	var l losses
	s.discard(func(i item) bool { return i.batch == 0 && l.add(i.event) })
	out.Dropped.Age += l.events
	s.tell(&l, out)
	s.release(now, out)
}

// losses are events that the client is to be told of.
type losses struct {
	events   int
	channels map[string]bool
	direct   []string // channels of messages for this session alone
	rosters  []string // of which news are lost
}

// add adds an event; notices it leaves alone, and reports so.
func (l *losses) add(e *event.Event) bool {
	if e.Notice() {
		return false
	}
	if isRoster(e) {
		if !slices.Contains(l.rosters, e.Channel) {
			l.rosters = append(l.rosters, e.Channel)
		}
		return true
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

// tell leaves notices for all that is lost, but for rosters, which are told
// anew.
func (s *Session) tell(l *losses, out *Effects) {
	out.Stray = append(out.Stray, l.rosters...)
	for _, channel := range s.concerned(l) {
		s.notice(channel)
	}
}

// concerned are the subscriptions that lost something, and the channels of
// messages for this session alone.
func (s *Session) concerned(l *losses) (channels []string) {
	for _, sub := range s.subs {
		if sub.state == active && sub.lost(l.channels) {
			channels = append(channels, sub.channel)
		}
	}
	return append(channels, l.direct...)
}
