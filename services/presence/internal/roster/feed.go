package roster

import (
	"fmt"
	"slices"
	"time"
	"unique"
)

// State is a whole session, as its edge tells it.
type State struct {
	User, Transport string
	Since           time.Time
	Channels        []string // in any order
}

// Feed is what one edge says. Once it is replaced or ended, nothing it says
// counts any more.
type Feed struct {
	roster *Roster
	edge   *edge
	round  uint64
}

// Attach begins an edge's feed, in place of an older one.
func (r *Roster) Attach(member string) *Feed {
	e, ok := r.edges[member]
	if !ok {
		e = &edge{member: member, sessions: make(map[*session]struct{})}
		r.edges[member] = e
	}
	e.round++
	e.fed = true
	return &Feed{roster: r, edge: e, round: e.round}
}

// Member returns whose feed it is.
func (f *Feed) Member() string { return f.edge.member }

// Current reports whether it is the feed of its edge.
func (f *Feed) Current() bool { return f.edge.fed && f.edge.round == f.round }

// Synced says that all sessions of the edge have been named.
func (f *Feed) Synced() {
	if !f.Current() {
		return
	}
	f.roster.removeAll(f.edge.sessions, func(s *session) bool { return s.round != f.round })
	f.edge.synced = true
}

// End says that the edge is no longer heard.
func (f *Feed) End(now time.Time) {
	if f.Current() {
		f.edge.fed, f.edge.lost = false, now
	}
}

// Present says that a session is there, and all about it. It replaces what was
// known, also from another edge; channels it was on before keep their time.
func (f *Feed) Present(id string, st State, now time.Time) error {
	if !f.Current() {
		return nil
	}
	r := f.roster
	s, known := r.sessions[id]
	if known && s.user != st.User {
		r.remove(s)
		known = false
	}
	if !known {
		if len(r.sessions) >= r.limits.Sessions {
			return fmt.Errorf("%w: %d sessions", ErrLimit, r.limits.Sessions)
		}
		s = &session{id: id, user: st.User, edge: f.edge}
		r.add(s)
		now = st.Since // we hear of it late; it subscribed some time after
	}
	delete(s.edge.sessions, s)
	s.edge, s.round, s.since = f.edge, f.round, st.Since
	s.transport = unique.Make(st.Transport).Value() // one of few
	s.edge.sessions[s] = struct{}{}

	wanted := slices.Clone(st.Channels)
	slices.Sort(wanted)
	s.subs = slices.DeleteFunc(s.subs, func(old sub) bool {
		_, keep := slices.BinarySearch(wanted, old.name)
		if !keep {
			r.leave(s, old)
		}
		return !keep
	})
	return f.subscribe(s, wanted, now)
}

// add makes a session known.
func (r *Roster) add(s *session) {
	r.sessions[s.id] = s
	if s.user == "" {
		return
	}
	if r.users[s.user] == nil {
		r.users[s.user] = make(map[*session]struct{})
	}
	r.users[s.user][s] = struct{}{}
}

// Subscribed says that a session subscribed to channels.
func (f *Feed) Subscribed(id string, channels []string, now time.Time) error {
	s := f.own(id)
	if s == nil {
		return nil
	}
	return f.subscribe(s, channels, now)
}

func (f *Feed) subscribe(s *session, channels []string, now time.Time) error {
	for _, name := range channels {
		if _, on := s.find(name); on {
			continue
		}
		if len(s.subs) >= f.roster.limits.Channels {
			return fmt.Errorf("%w: %d channels of session %s", ErrLimit, f.roster.limits.Channels, s.id)
		}
		f.roster.join(s, name, now)
	}
	return nil
}

// Unsubscribed says that a session left channels.
func (f *Feed) Unsubscribed(id string, channels []string) {
	s := f.own(id)
	if s == nil {
		return
	}
	for _, name := range channels {
		if i, on := s.find(name); on {
			left := s.subs[i]
			s.subs = slices.Delete(s.subs, i, i+1)
			f.roster.leave(s, left)
		}
	}
}

// Gone says that a session ended.
func (f *Feed) Gone(id string) {
	if s := f.own(id); s != nil {
		f.roster.remove(s)
	}
}

// own returns a session of the edge; nil if it is none, or the feed is over.
func (f *Feed) own(id string) *session {
	if s, ok := f.roster.sessions[id]; ok && s.edge == f.edge && f.Current() {
		return s
	}
	return nil
}
