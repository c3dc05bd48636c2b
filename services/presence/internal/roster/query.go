package roster

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Count returns how many members a channel has.
func (r *Roster) Count(channel string) int {
	c, ok := r.channels[channel]
	if !ok {
		return 0
	}
	return len(c.members)
}

// Members returns the first members of a channel, by session.
func (r *Roster) Members(channel string, limit int) []Member {
	c, ok := r.channels[channel]
	if !ok {
		return nil
	}
	return c.list("", limit)
}

// list returns the first members whose sessions come after an id.
func (c *channel) list(after string, limit int) []Member {
	var members []Member
	for _, s := range first(maps.Keys(c.members), after, limit) {
		i, _ := s.find(c.name)
		members = append(members, s.member(s.subs[i]))
	}
	return members
}

// Of returns the first sessions of a user, by id; of everybody if user is
// empty.
func (r *Roster) Of(user string, limit int) []Session {
	from := maps.Values(r.sessions)
	if user != "" {
		from = maps.Keys(r.users[user])
	}
	var list []Session
	for _, s := range first(from, "", limit) {
		show := Session{ID: s.id, User: s.user, Edge: s.edge.member, Transport: s.transport, Since: s.since}
		for _, sub := range s.subs {
			show.Channels = append(show.Channels, sub.name)
		}
		list = append(list, show)
	}
	return list
}

// first returns those sessions with the lowest ids above another, in order. It
// looks at each once and keeps no more than it returns.
func first(from iter.Seq[*session], above string, limit int) []*session {
	var best []*session
	for s := range from {
		if s.id <= above || len(best) == limit && s.id > best[limit-1].id {
			continue
		}
		i, _ := slices.BinarySearchFunc(best, s.id, func(s *session, id string) int { return strings.Compare(s.id, id) })
		if len(best) == limit {
			best = best[:limit-1]
		}
		best = slices.Insert(best, i, s)
	}
	return best
}
