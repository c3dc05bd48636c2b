package holder

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/home"
)

// Member is a session on a channel's roster.
type Member struct {
	Session, User, Edge string
	Generation          home.Generation
	// Since is when it subscribed, as far as this holder knows: never before the
	// session began.
	Since time.Time
}

// Session is what is known of one.
type Session struct {
	ID, User, Edge, Transport string
	Since                     time.Time
	Channels                  []string // in order
}

// channel is one that sessions have subscribed to, or that is watched.
type channel struct {
	name    string
	members members // whose shards this process is the first holder of
	watches map[*Watch]struct{}
	refs    int // subs and watches
}

// channel returns a channel's record, a new one if need be.
func (h *Holder) channel(name string) *channel {
	c, ok := h.channels[name]
	if !ok {
		c = &channel{name: name}
		h.channels[name] = c
	}
	return c
}

// release forgets a channel that nobody needs any more.
func (h *Holder) release(c *channel) {
	if c.refs--; c.refs == 0 {
		delete(h.channels, c.name)
	}
}

// Count returns how many members a channel has.
func (h *Holder) Count(name string) int {
	c, ok := h.channels[name]
	if !ok {
		return 0
	}
	return c.members.count()
}

// Members returns the first members of a channel, by session.
func (h *Holder) Members(name string, limit int) []Member {
	c, ok := h.channels[name]
	if !ok {
		return nil
	}
	return c.list("", limit)
}

// Everyone is all members of a channel, in no order.
func (h *Holder) Everyone(name string) iter.Seq[Member] {
	return func(yield func(Member) bool) {
		c, ok := h.channels[name]
		if !ok {
			return
		}
		for r := range c.members.all() {
			if i, _ := r.find(name); !yield(r.member(r.subs[i])) {
				return
			}
		}
	}
}

// list returns the first members whose sessions come after an id.
func (c *channel) list(after string, limit int) []Member {
	var list []Member
	for _, r := range first(c.members.all(), after, limit) {
		i, _ := r.find(c.name)
		list = append(list, r.member(r.subs[i]))
	}
	return list
}

// Of returns the first sessions of a user above one, by id; of everybody if user
// is empty.
func (h *Holder) Of(user, above string, limit int) []Session {
	var list []Session
	for _, r := range first(h.of(user), above, limit) {
		st := r.state(r.generation)
		list = append(list, Session{
			ID: r.id, User: r.user, Edge: r.home.member, Transport: r.transport, Since: st.Since, Channels: st.Channels,
		})
	}
	return list
}

func (h *Holder) of(user string) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for r := h.users[user]; r != nil; r = r.after {
			if !yield(r) {
				return
			}
		}
		if user != "" {
			return
		}
		for _, s := range h.first.list() {
			for _, r := range h.parts[s].records {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// first returns those records with the lowest ids above another, in order. It
// looks at each once and keeps no more than it returns.
func first(from iter.Seq[*record], above string, limit int) []*record {
	var best []*record
	for r := range from {
		if limit == 0 || r.id <= above || len(best) == limit && r.id > best[limit-1].id {
			continue
		}
		i, _ := slices.BinarySearchFunc(best, r.id, func(r *record, id string) int { return strings.Compare(r.id, id) })
		if len(best) == limit {
			best = best[:limit-1]
		}
		best = slices.Insert(best, i, r)
	}
	return best
}

// members is a set of sessions. Most channels have few: a map of one would be
// larger than what it is of.
type members struct {
	few  []*record
	many map[*record]struct{} // instead, once they are more
}

const fewMembers = 8

func (m *members) add(r *record) {
	switch {
	case m.many != nil:
		m.many[r] = struct{}{}
	case len(m.few) < fewMembers:
		m.few = append(m.few, r)
	default:
		m.many = make(map[*record]struct{}, 2*fewMembers)
		for _, old := range m.few {
			m.many[old] = struct{}{}
		}
		m.many[r], m.few = struct{}{}, nil
	}
}

func (m *members) remove(r *record) {
	if m.many != nil {
		if delete(m.many, r); len(m.many) == 0 {
			m.many = nil
		}
		return
	}
	if i := slices.Index(m.few, r); i >= 0 {
		last := len(m.few) - 1
		m.few[i], m.few[last] = m.few[last], nil
		m.few = m.few[:last]
	}
}

func (m *members) count() int { return len(m.few) + len(m.many) }

func (m *members) all() iter.Seq[*record] {
	if m.many != nil {
		return maps.Keys(m.many)
	}
	return slices.Values(m.few)
}
