package outbox

import (
	"time"

	"github.com/comet-push/comet/internal/home"
)

// seen is what was read in channels, by session.
type seen struct {
	most  int
	keep  time.Duration
	of    map[string]*mark
	order []glance // from the oldest
}

// mark is what was read of one session.
type mark struct {
	at    time.Time
	ended bool
	g     home.Generation // of the last end
	left  []leave         // the last ones
}

type leave struct {
	channel string
	time    time.Time
}

// glance says in which order marks were made.
type glance struct {
	session string
	at      time.Time
}

// maxLeaves is how many leaves of one session are remembered.
const maxLeaves = 64

func (s *seen) add(e *Event, now time.Time) {
	m := s.of[e.Session]
	if m == nil {
		m = &mark{}
		s.of[e.Session] = m
	}
	if m.at = now; e.Left != nil {
		m.left = append(m.left, leave{e.Left.Channel, e.Time})
		m.left = m.left[max(0, len(m.left)-maxLeaves):]
	} else if g := e.generation(); !m.ended || g.After(m.g) {
		m.ended, m.g = true, g
	}
	s.order = append(s.order, glance{e.Session, now})
	for len(s.order) > s.most {
		s.pop()
	}
}

// proves reports whether an event need not be published any more.
func (s *seen) proves(x *item) bool {
	m := s.of[x.event.Session]
	if m == nil {
		return false
	}
	if m.ended && !x.g.After(m.g) {
		return true // whoever published the end had published what was before it
	}
	if x.event.Left == nil {
		return false
	}
	for _, l := range m.left {
		if l.channel == x.event.Left.Channel && !l.time.Before(x.joined) {
			return true
		}
	}
	return false
}

func (s *seen) expire(now time.Time) {
	for len(s.order) > 0 && now.Sub(s.order[0].at) >= s.keep {
		s.pop()
	}
}

func (s *seen) pop() {
	g := s.order[0]
	s.order[0] = glance{}
	s.order = s.order[1:]
	if m := s.of[g.session]; m != nil && m.at.Equal(g.at) {
		delete(s.of, g.session)
	}
}
