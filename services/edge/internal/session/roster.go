package session

import (
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Tell queues news of a roster, made by event.NewMessage, and reports whether it
// did: not if the client is not subscribed to it, or has not been told so yet,
// nor if the queue is full.
func (s *Session) Tell(now time.Time, e *event.Event, out *Effects) bool {
	sub := s.find(e.Channel)
	switch {
	case s.ended() || sub == nil || sub.state != active:
		return false
	case s.pushing() && !s.blocked: // so nothing waits
		s.pushOne(now, e, out)
		return true
	case s.full(e):
		return false
	}
	s.enqueue(item{event: e}, out)
	s.release(now, out)
	return true
}

// isRoster reports whether an event is news of a roster.
func isRoster(e *event.Event) bool {
	_, roster := bayeux.RosterOf(e.Channel)
	return roster && e.At.Offset == 0
}

func (sub *subscription) isRoster() bool {
	_, roster := bayeux.RosterOf(sub.channel)
	return roster
}

// strayRosters has all rosters told anew.
func (s *Session) strayRosters(out *Effects) {
	for _, sub := range s.subs {
		if sub.state == active && sub.isRoster() {
			out.Stray = append(out.Stray, sub.channel)
		}
	}
}

// slots are those of the subscriptions whose events are entries.
func (s *Session) slots() []shard.Slot {
	channels := make([]string, 0, len(s.subs))
	for _, sub := range s.subs {
		if sub.state == active && !sub.isRoster() {
			channels = append(channels, sub.channel)
		}
	}
	return shard.SlotsOf(channels)
}
