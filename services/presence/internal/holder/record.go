package holder

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// record is one session. There are very many, so it is small.
type record struct {
	id, user, transport string
	resume              string
	subs                []sub // by channel
	home                *edge
	claim               *claim // nil: its home has reported it
	generation          home.Generation
	since               int64 // of the session, in nanoseconds
	adoptable           time.Duration
	before, after       *record // of the same user
	round               uint32  // of its home's feeds, when it was last named
	listed              bool    // in Holder.claims
}

// sub is one membership.
type sub struct {
	*channel
	since int64
}

// claim is what stands of a session that was claimed until the claimer reports
// it: the last home that did.
type claim struct {
	at         time.Time
	previous   string
	generation home.Generation
	vector     []uint64
}

// tomb is the end of a session.
type tomb struct {
	generation home.Generation
	at         time.Time
}

// grave says in which order tombs were made.
type grave struct {
	id string
	at time.Time
}

// find returns the record of a session, or nil, and its shard.
func (h *Holder) find(id string) (*record, shard.PresenceShard) {
	s := shard.OfSession(id)
	return h.parts[s].records[id], s
}

// add makes a session known.
func (h *Holder) add(r *record, s shard.PresenceShard) {
	h.parts[s].records[r.id] = r
	h.sessions++
	h.link(r, h.parts[s].First)
}

// index makes a record count, or not any more, for rosters and users. Nobody is
// told.
func (h *Holder) index(r *record, counts bool) {
	for _, sub := range r.subs {
		switch {
		case !counts:
			sub.members.remove(r)
		case !h.isAway(r, sub.channel):
			sub.members.add(r)
		}
	}
	h.link(r, counts)
}

// link puts a record among its user's, or takes it out.
func (h *Holder) link(r *record, in bool) {
	switch first := h.users[r.user]; {
	case r.user == "":
	case in && r != first && r.before == nil:
		if r.after = first; first != nil {
			first.before = r
		}
		h.users[r.user] = r
	case !in:
		if r.after != nil {
			r.after.before = r.before
		}
		switch {
		case r.before != nil:
			r.before.after = r.after
		case r.after != nil:
			h.users[r.user] = r.after
		case r == first:
			delete(h.users, r.user)
		}
		r.before, r.after = nil, nil
	}
}

// endAll ends sessions, by id.
func (h *Holder) endAll(over []*record, reason string, now time.Time) {
	slices.SortFunc(over, func(a, b *record) int { return strings.Compare(a.id, b.id) })
	for _, r := range over {
		h.end(r, r.generation, reason, now)
	}
}

// end ends a session in a generation, which is not below the record's.
func (h *Holder) end(r *record, g home.Generation, reason string, now time.Time) {
	_, s := h.find(r.id)
	for _, sub := range r.subs {
		h.leave(r, sub, h.parts[s].First)
	}
	h.link(r, false)
	delete(h.parts[s].records, r.id)
	h.sessions--
	r.claim = nil
	h.bury(r.id, g, now)
	h.tellEnded(r, g, reason, now)
}

// bury remembers the end of a session.
func (h *Holder) bury(id string, g home.Generation, now time.Time) {
	if t, ok := h.tombs[id]; ok && !g.After(t.generation) {
		return
	}
	h.tombs[id] = tomb{generation: g, at: now}
	h.buried = append(h.buried, grave{id, now})
	for len(h.buried) > h.cfg.Tombstones {
		h.unbury()
	}
}

// unbury forgets the oldest end.
func (h *Holder) unbury() {
	g := h.buried[0]
	h.buried[0] = grave{}
	h.buried = h.buried[1:]
	if h.tombs[g.id].at.Equal(g.at) {
		delete(h.tombs, g.id)
	}
}

func (h *Holder) tickTombs(now time.Time) {
	for len(h.buried) > 0 && now.Sub(h.buried[0].at) >= remember {
		h.unbury()
	}
}

// join makes a session a member of a channel it is not on.
func (h *Holder) join(r *record, name string, since int64, first bool) {
	i, _ := r.find(name)
	joined := sub{h.channel(name), since}
	joined.refs++
	if r.subs == nil {
		r.subs = make([]sub, 0, 2)
	}
	r.subs = slices.Insert(r.subs, i, joined)
	if first {
		joined.members.add(r)
		joined.tell(true, r.member(joined))
	}
}

// leave ends a membership; the caller removes it from the record.
func (h *Holder) leave(r *record, left sub, first bool) {
	if away := h.forgive(r, left.channel); first && !away {
		left.members.remove(r)
		left.tell(false, r.member(left))
	}
	h.release(left.channel)
}

// find returns where a channel is, or would be, in a session's list.
func (r *record) find(name string) (int, bool) {
	return slices.BinarySearchFunc(r.subs, name, func(s sub, name string) int { return cmp.Compare(s.name, name) })
}

func (r *record) member(on sub) Member {
	return Member{Session: r.id, User: r.user, Edge: r.home.member, Generation: r.generation, Since: time.Unix(0, on.since)}
}

func (r *record) channels() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, sub := range r.subs {
			if !yield(sub.name) {
				return
			}
		}
	}
}

// state is all that is known of a session.
func (r *record) state(g home.Generation) State {
	st := State{
		User: r.user, Transport: r.transport, Since: time.Unix(0, r.since), Generation: g,
		Adoptable: r.adoptable, Resume: []byte(r.resume),
	}
	for _, sub := range r.subs {
		st.Channels = append(st.Channels, sub.name)
	}
	return st
}
