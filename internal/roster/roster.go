// Package roster is what is known of the members of a channel, and what leads
// from there to what is: the batches in which presence tells edges, and these
// their sessions. It is pure; nothing in it waits.
package roster

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"time"
)

// Most is how many members a roster lists; beyond it they are only counted.
const Most = 1000

// Every is how often a roster's changes are told at most.
const Every = 250 * time.Millisecond

// Member is a session on a channel. It is told apart by its public id alone: since
// when it subscribes is what somebody was told first.
type Member struct {
	Session, User string
	Since         time.Time
}

// State is what is known of a roster. Nobody changes one that is shared.
type State struct {
	// Count is how many members there are.
	Count uint64
	// Listed says that Members, by session, has them all.
	Listed  bool
	Members map[string]Member
}

// Change leads from one state to another.
type Change struct {
	Count uint64
	// Listed says that members are told; else the receiver forgets them.
	Listed bool
	// Whole says that Joined are all there are, whatever was known before.
	Whole bool
	// Joined and Left are in the order of sessions, and have none in common.
	Joined, Left []Member
}

// Of is the state of members that are listed.
func Of(members []Member) State {
	s := State{Count: uint64(len(members)), Listed: true, Members: make(map[string]Member, len(members))}
	for _, m := range members {
		s.Members[m.Session] = m
	}
	return s
}

// Counted is the state of members that are only counted.
func Counted(n uint64) State { return State{Count: n} }

// Lists reports whether as many members as these are listed, at most limit, if
// the last ones were or were not: once they have been too many they have to be
// somewhat fewer. It is false for a limit of 0.
func Lists(n uint64, limit int, before bool) bool {
	if !before {
		limit -= limit / 10
	}
	return n <= uint64(limit) && limit > 0
}

// Whole is the change that tells all of a state.
func (s State) Whole() Change {
	return Change{Count: s.Count, Listed: s.Listed, Whole: s.Listed, Joined: sorted(maps.Values(s.Members))}
}

// Until is the change that leads to the next state, if that is another.
func (s State) Until(next State) (c Change, differs bool) {
	switch {
	case !next.Listed:
		return next.Whole(), s.Listed || s.Count != next.Count
	case !s.Listed:
		return next.Whole(), true
	}
	c = Change{Count: next.Count, Listed: true}
	c.Joined, c.Left = beyond(next.Members, s.Members), beyond(s.Members, next.Members)
	return c, len(c.Joined)+len(c.Left) > 0
}

// After is the state that a change leads to. Members keep since when they were
// known to be there.
func (s State) After(c Change) State {
	next := State{Count: c.Count, Listed: c.Listed}
	if !c.Listed {
		return next
	}
	next.Members = make(map[string]Member, len(s.Members)+len(c.Joined))
	if !c.Whole {
		maps.Copy(next.Members, s.Members)
	}
	for _, m := range c.Left {
		delete(next.Members, m.Session)
	}
	for _, m := range c.Joined {
		if known, ok := s.Members[m.Session]; ok {
			m = known
		}
		next.Members[m.Session] = m
	}
	return next
}

// Join puts states together that have no members in common. All have to be
// listed for the whole to be.
func Join(parts []State) State {
	whole := State{Listed: true}
	for _, p := range parts {
		whole.Count += p.Count
		whole.Listed = whole.Listed && p.Listed
	}
	if !whole.Listed {
		return whole
	}
	whole.Members = make(map[string]Member, whole.Count)
	for _, p := range parts {
		maps.Copy(whole.Members, p.Members)
	}
	return whole
}

// Bound is the state with its members if they are to be listed, else without.
func (s State) Bound(limit int, before bool) State {
	if s.Listed && Lists(s.Count, limit, before) {
		return s
	}
	return Counted(s.Count)
}

// beyond are the members of one set that another has not.
func beyond(one, other map[string]Member) []Member {
	return sorted(func(yield func(Member) bool) {
		for session, m := range one {
			if _, ok := other[session]; !ok && !yield(m) {
				return
			}
		}
	})
}

func sorted(members iter.Seq[Member]) []Member {
	return slices.SortedFunc(members, func(a, b Member) int { return cmp.Compare(a.Session, b.Session) })
}
