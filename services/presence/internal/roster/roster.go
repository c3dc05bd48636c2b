// Package roster knows which sessions there are, where, and what they
// subscribe to, from what their edges tell. It is a pure state machine: time
// comes in, and nothing in it waits. Not safe for concurrent use.
//
//  1. A session belongs to the edge that last said that it is present; what
//     other edges say of it is ignored.
//  2. An edge speaks through one Feed; a newer one silences the older. Sessions
//     that the newer one has not named when it is synced are gone.
//  3. The sessions of an edge without a feed stay until Expire drops the edge.
//  4. A Watch hears of each member it has been told of when it leaves, and of
//     every other one when it joins or is listed, each once, in order; or it is
//     told that it fell behind.
package roster

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
)

// ErrLimit says that one more session, channel or watch would be too many.
var ErrLimit = errors.New("roster is full")

// Limits bound a roster.
type Limits struct {
	// Sessions of all edges.
	Sessions int
	// Channels of one session.
	Channels int
	// Watches of all channels.
	Watches int
	// Queue is how many changes may wait for one watch.
	Queue int
}

// Member is a session on a channel's roster.
type Member struct {
	Session, User, Edge string
	// Since is when it subscribed, as far as this roster knows: never before
	// the session began.
	Since time.Time
}

// Session is what is known of one.
type Session struct {
	ID, User, Edge, Transport string
	Since                     time.Time
	Channels                  []string // in order
}

// Roster is who is there.
type Roster struct {
	limits   Limits
	edges    map[string]*edge // by member
	sessions map[string]*session
	users    map[string]map[*session]struct{}
	channels map[string]*channel
	watches  int
}

// edge is one member of the cluster that reports sessions.
type edge struct {
	member   string
	sessions map[*session]struct{}
	round    uint64 // which of its feeds is the present one
	fed      bool
	synced   bool      // by any of its feeds
	lost     time.Time // when the last feed ended
}

type session struct {
	id, user, transport string
	since               time.Time
	edge                *edge
	round               uint64 // of its edge, when it was last named
	subs                []sub  // by channel
}

type sub struct {
	*channel
	since time.Time
}

// channel is one that has members or watches.
type channel struct {
	name    string
	members map[*session]struct{}
	watches map[*Watch]struct{}
}

// New returns an empty roster.
func New(l Limits) *Roster {
	return &Roster{
		limits: l, edges: make(map[string]*edge), sessions: make(map[string]*session),
		users: make(map[string]map[*session]struct{}), channels: make(map[string]*channel),
	}
}

// Sessions returns how many there are.
func (r *Roster) Sessions() int { return len(r.sessions) }

// Edges returns how many edges are known.
func (r *Roster) Edges() int { return len(r.edges) }

// Watches returns how many there are.
func (r *Roster) Watches() int { return r.watches }

// Missing returns which of these edges have not told of all their sessions.
func (r *Roster) Missing(edges []string) []string {
	var missing []string
	for _, member := range edges {
		if e, ok := r.edges[member]; !ok || !e.synced {
			missing = append(missing, member)
		}
	}
	return missing
}

// Expire drops edges without a feed, and their sessions: those that are not
// announced any more, and those whose last feed ended a grace ago. It returns
// which, in order.
func (r *Roster) Expire(now time.Time, grace time.Duration, announced func(member string) bool) []string {
	var dropped []string
	for member, e := range r.edges {
		if !e.fed && (now.Sub(e.lost) >= grace || !announced(member)) {
			dropped = append(dropped, member)
		}
	}
	slices.Sort(dropped)
	for _, member := range dropped {
		r.removeAll(r.edges[member].sessions, func(*session) bool { return true })
		delete(r.edges, member)
	}
	return dropped
}

// removeAll removes those sessions of a set that are to go, by id.
func (r *Roster) removeAll(set map[*session]struct{}, goes func(*session) bool) {
	gone := slices.DeleteFunc(slices.Collect(maps.Keys(set)), func(s *session) bool { return !goes(s) })
	slices.SortFunc(gone, func(a, b *session) int { return strings.Compare(a.id, b.id) })
	for _, s := range gone {
		r.remove(s)
	}
}

// remove ends a session.
func (r *Roster) remove(s *session) {
	for _, sub := range s.subs {
		r.leave(s, sub)
	}
	delete(r.sessions, s.id)
	delete(s.edge.sessions, s)
	if s.user != "" {
		delete(r.users[s.user], s)
		if len(r.users[s.user]) == 0 {
			delete(r.users, s.user)
		}
	}
}

// join makes a session a member of a channel it is not on.
func (r *Roster) join(s *session, name string, now time.Time) {
	i, _ := s.find(name)
	joined := sub{r.channel(name), now}
	s.subs = slices.Insert(s.subs, i, joined)
	joined.members[s] = struct{}{}
	joined.tell(true, s.member(joined))
}

// leave ends a membership; the caller removes it from the session.
func (r *Roster) leave(s *session, left sub) {
	delete(left.members, s)
	left.tell(false, s.member(left))
	r.tidy(left.channel)
}

// channel returns a channel's record, a new one if need be.
func (r *Roster) channel(name string) *channel {
	c, ok := r.channels[name]
	if !ok {
		c = &channel{name: name, members: make(map[*session]struct{}), watches: make(map[*Watch]struct{})}
		r.channels[name] = c
	}
	return c
}

// tidy forgets a channel that nobody needs.
func (r *Roster) tidy(c *channel) {
	if len(c.members) == 0 && len(c.watches) == 0 {
		delete(r.channels, c.name)
	}
}

// find returns where a channel is, or would be, in a session's list.
func (s *session) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.subs, name, func(s sub, name string) int { return strings.Compare(s.name, name) })
}

func (s *session) member(on sub) Member {
	return Member{Session: s.id, User: s.user, Edge: s.edge.member, Since: on.since}
}
