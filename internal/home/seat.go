package home

import (
	"errors"
	"time"
)

// ErrStale says that a claim was overtaken by a later one.
var ErrStale = errors.New("a later generation of this session is known")

// Seat is an edge's part in one session of which it is, or was, the home.
type Seat struct {
	gen   Generation
	moved int64 // when it was taken over, in ns; 0: it began here
	rare  *rare // nil: it is the home, and its clients come here
}

// rare is what few seats have.
type rare struct {
	given  *given   // nil: it is the home, as far as it knows
	settle *settled // nil: its clients come here, or have not come yet
}

// given is a seat that somebody else has.
type given struct {
	to    string // whose it is, or empty
	gen   Generation
	taker Generation // who took it first
	until time.Time
}

// settled is through which front a client comes.
type settled struct {
	front string
	times int
}

// NewSeat is the seat of a session that began here, or was taken over, just now.
// moved is when it was taken over; zero: it began here.
func NewSeat(g Generation, moved time.Time) Seat {
	s := Seat{gen: g}
	if !moved.IsZero() {
		s.moved = moved.UnixNano()
	}
	return s
}

// left says whose the seat is, if it was given away.
func (s *Seat) left() *given {
	if s.rare == nil {
		return nil
	}
	return s.rare.given
}

func (s *Seat) own() *rare {
	if s.rare == nil {
		s.rare = &rare{}
	}
	return s.rare
}

// Generation is that of this home.
func (s *Seat) Generation() Generation { return s.gen }

// Serves reports whether the session may be answered for here.
func (s *Seat) Serves() bool { return s.left() == nil }

// Home is where the session went, if it did not stay, and in what generation.
func (s *Seat) Home() (edge string, g Generation) {
	if s.left() == nil {
		return "", s.gen
	}
	return s.left().to, s.left().gen
}

// Take hands the session over to the claimer of a generation; the copy is kept
// until then. It may be repeated. exact says that no other home can have been
// in between: numbers go on behind the last one.
func (s *Seat) Take(by string, g Generation, until time.Time) (exact bool, err error) {
	if !g.After(s.gen) || s.left() != nil && s.left().gen.After(g) {
		return false, ErrStale
	}
	s.give(by, g, until)
	if s.left().taker == (Generation{}) {
		s.left().taker = g
	}
	return s.left().taker == g && g == s.gen.Next(s.gen.Epoch), nil
}

func (s *Seat) give(to string, g Generation, until time.Time) {
	own := s.own()
	if own.given == nil {
		own.given = &given{}
	}
	own.given.to, own.given.gen, own.given.until = to, g, until
}

// Verdict is what to do about a session of which presence refused a report.
type Verdict uint8

// The verdicts.
const (
	// Nothing: the answer was late.
	Nothing Verdict = iota
	// Claim it: its lease ended meanwhile. Until then it is served as before, and
	// not moved.
	Claim
	// Keep the copy until Dead: another edge is, or becomes, its home.
	Keep
	// End it, here and, by reporting so, everywhere: it is over.
	End
)

// Superseded hears what presence says stands, and keeps the copy until then.
func (s *Seat) Superseded(self, edge string, g Generation, until time.Time) Verdict {
	switch {
	case s.gen.After(g) || s.left() != nil && s.left().gen.After(g):
		return Nothing
	case edge == "":
		s.give("", g, until)
		return End
	case edge == self:
		return Claim
	case s.left() != nil && s.left().gen == g:
		return Nothing
	case g == s.gen: // another edge in our generation: there is no such thing
		return Nothing
	}
	s.give(edge, g, until)
	return Keep
}

// Dead reports whether a copy that was given away need not be kept any longer.
// Presence is told that it moved: one that has not heard of the new home must
// not believe in this one for ever.
func (s *Seat) Dead(now time.Time) bool { return s.left() != nil && !now.Before(s.left().until) }

// Through hears of a connect and through which front it came, empty: through
// none. It reports whether the front may claim the session.
func (s *Seat) Through(front string, now time.Time) bool {
	const times, pause = 3, time.Minute
	if front == "" {
		if s.rare != nil {
			s.rare.settle = nil
		}
		return false
	}
	own := s.own()
	if own.settle == nil || own.settle.front != front {
		own.settle = &settled{front: front}
	}
	own.settle.times++
	return own.settle.times >= times && (s.moved == 0 || now.UnixNano()-s.moved >= int64(pause))
}
