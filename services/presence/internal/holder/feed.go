package holder

import (
	"fmt"
	"slices"
	"time"
	"unique"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// State is a whole session, as its home tells it.
type State struct {
	User, Transport string
	Since           time.Time
	Channels        []string // in any order
	// Generation is of the home that says so.
	Generation home.Generation
	// Adoptable is for how long it can be claimed after its home was lost.
	Adoptable time.Duration
	// Resume is what whoever claims it goes on from.
	Resume []byte
}

// Feed is what one edge says. Once it is replaced, or its edge is not in the
// directory any more, nothing it says counts.
type Feed struct {
	holder *Holder
	edge   *edge
	round  uint32
}

// Attach begins an edge's feed, in place of an older one. notify is called when
// Answers has something, or the feed is over; it must not call back.
func (h *Holder) Attach(member string, notify func()) (*Feed, error) {
	e := h.edges[member]
	if e == nil {
		return nil, ErrAbsent
	}
	if e.fed {
		e.fed = false
		e.wake()
	}
	e.round++
	e.fed, e.notify, e.told = true, notify, nil
	e.said, e.deaf, e.wanted = set{}, set{}, set{}
	return &Feed{holder: h, edge: e, round: e.round}, nil
}

// Current reports whether the feed counts.
func (f *Feed) Current() bool { return f.edge.fed && f.edge.round == f.round }

// Announced reports whether the edge is in the directory as it was when the
// feed began.
func (f *Feed) Announced() bool { return f.edge.lost.IsZero() }

// End says that the edge is no longer heard.
func (f *Feed) End() {
	if f.Current() {
		f.edge.fed, f.edge.told, f.edge.notify = false, nil, nil
	}
}

// Answers returns what the edge is to be told, once: which of its reports were
// refused, or are overtaken, and which shards it should begin and sync again.
func (f *Feed) Answers() (refused []Superseded, wanted []shard.PresenceShard) {
	if !f.Current() {
		return nil, nil
	}
	refused, wanted = f.edge.told, f.edge.wanted.list()
	f.edge.told, f.edge.wanted = nil, set{}
	return refused, wanted
}

// hears reports whether what is said of a shard counts.
func (f *Feed) hears(s shard.PresenceShard) bool {
	if !f.Current() || s >= shard.PresenceShards {
		return false
	}
	f.edge.said.put(s, true)
	return f.holder.held.has(s) && !f.edge.deaf.has(s)
}

// Begin says that all sessions of a shard follow.
func (f *Feed) Begin(s shard.PresenceShard) {
	if !f.Current() || s >= shard.PresenceShards {
		return
	}
	f.edge.deaf.put(s, false)
	f.edge.wanted.put(s, false)
	if f.hears(s) {
		for _, r := range f.holder.parts[s].records {
			if r.home == f.edge {
				r.round = 0 // no feed's: it is to be named again
			}
		}
	}
}

// Check compares what the edge has of a shard with what is known, and wants the
// shard if that is something else. It may be so for a moment without a fault, when
// sessions move.
func (f *Feed) Check(s shard.PresenceShard, sum shard.Sum) bool {
	if !f.hears(s) || !f.edge.synced.has(s) {
		return true
	}
	var own shard.Sum
	for _, r := range f.holder.parts[s].records {
		if r.claim != nil {
			return true // who has it is not certain
		}
		if r.home == f.edge {
			own.Add(r.id, r.generation.Epoch, r.generation.Count, r.channels())
		}
	}
	if own == sum {
		return true
	}
	f.edge.wanted.put(s, true)
	f.edge.wake()
	return false
}

// Sync says that all sessions of a shard have been named.
func (f *Feed) Sync(s shard.PresenceShard, now time.Time) {
	if !f.hears(s) {
		return
	}
	var over []*record
	for _, r := range f.holder.parts[s].records {
		if r.home == f.edge && r.claim == nil && r.round != f.round {
			over = append(over, r)
		}
	}
	f.holder.endAll(over, Vanished, now)
	f.edge.synced.put(s, true)
}

// Vector says up to where all sessions of the edge were given everything and
// have confirmed it, by slot, but for what their States say.
func (f *Feed) Vector(offsets []uint64) {
	if f.Current() {
		f.edge.vector = offsets
	}
}

// Present says that a session is there, and all about it. It replaces what was
// known; channels it was on before keep their time.
func (f *Feed) Present(id string, st State, now time.Time) error {
	h := f.holder
	r, s := h.find(id)
	if !f.hears(s) {
		return nil
	}
	if t, over := h.tombs[id]; over && !st.Generation.After(t.generation) {
		f.edge.tell(Superseded{Session: id, Generation: t.generation})
		return nil
	}
	if r != nil && !st.Generation.After(r.generation) && (st.Generation != r.generation || r.home != f.edge) {
		if r.home != f.edge { // else it has claimed meanwhile
			f.edge.tell(Superseded{Session: id, Generation: r.generation, Home: r.home.member})
		}
		return nil
	}
	if err := h.checkResume(id, st.Resume); err != nil {
		return err
	}
	at := now.UnixNano()
	if r == nil {
		if _, over := h.tombs[id]; over && h.cfg.Again != nil {
			h.cfg.Again(id, st.Generation)
		}
		if h.sessions >= h.cfg.Sessions {
			return fmt.Errorf("%w: %d sessions", ErrLimit, h.cfg.Sessions)
		}
		r = &record{id: id, user: st.User}
		h.add(r, s)
		at = st.Since.UnixNano() // we hear of it late; it subscribed some time after
	}
	if r.user != st.User {
		h.link(r, false)
		r.user = st.User
		h.link(r, h.parts[s].First)
	}
	r.home, r.claim, r.generation, r.round = f.edge, nil, st.Generation, f.round
	r.since, r.adoptable, r.resume = st.Since.UnixNano(), st.Adoptable, string(st.Resume)
	r.transport = unique.Make(st.Transport).Value() // one of few
	return f.resubscribe(r, st.Channels, at, now)
}

// resubscribe makes these the channels of a session; new ones it is on since at.
func (f *Feed) resubscribe(r *record, channels []string, at int64, now time.Time) error {
	wanted := slices.Clone(channels)
	slices.Sort(wanted)
	first := f.holder.isFirst(r)
	r.subs = slices.DeleteFunc(r.subs, func(old sub) bool {
		_, keep := slices.BinarySearch(wanted, old.name)
		if !keep {
			f.holder.leave(r, old, first)
			f.holder.tellLeft(r, old, now)
		}
		return !keep
	})
	f.holder.comeBack(r)
	return f.subscribe(r, wanted, at)
}

// Resumed says what whoever claims a session goes on from now.
func (f *Feed) Resumed(id string, resume []byte) error {
	r := f.own(id)
	if r == nil {
		return nil
	}
	if err := f.holder.checkResume(id, resume); err != nil {
		return err
	}
	r.resume = string(resume)
	return nil
}

// Subscribed says that a session subscribed to channels.
func (f *Feed) Subscribed(id string, channels []string, now time.Time) error {
	if r := f.own(id); r != nil {
		return f.subscribe(r, channels, now.UnixNano())
	}
	return nil
}

func (f *Feed) subscribe(r *record, channels []string, at int64) error {
	first := f.holder.isFirst(r)
	for _, name := range channels {
		if _, on := r.find(name); on {
			continue
		}
		if len(r.subs) >= f.holder.cfg.Channels {
			return fmt.Errorf("%w: %d channels of session %s", ErrLimit, f.holder.cfg.Channels, r.id)
		}
		f.holder.join(r, name, at, first)
	}
	return nil
}

// Unsubscribed says that a session left channels.
func (f *Feed) Unsubscribed(id string, channels []string, now time.Time) {
	r := f.own(id)
	if r == nil {
		return
	}
	first := f.holder.isFirst(r)
	for _, name := range channels {
		if i, on := r.find(name); on {
			left := r.subs[i]
			r.subs = slices.Delete(r.subs, i, i+1)
			f.holder.leave(r, left, first)
			f.holder.tellLeft(r, left, now)
		}
	}
}

// Gone says that a session ended, in the generation that the edge knows. With
// reason Moved only this home of it did.
func (f *Feed) Gone(id string, g home.Generation, reason string, now time.Time) {
	h := f.holder
	r, s := h.find(id)
	switch {
	case !f.hears(s):
	case reason == Moved:
		if r != nil && r.home == f.edge && r.generation == g {
			h.lose(r, now)
		}
	case r == nil:
		if t, over := h.tombs[id]; !over || g.After(t.generation) {
			h.bury(id, g, now)
			h.tellEnded(&record{id: id, home: f.edge}, g, reason, now) // it began since the last report
		}
	case g.After(r.generation), g == r.generation && r.home.member == f.edge.member:
		h.end(r, g, reason, now)
	}
}

func (h *Holder) checkResume(id string, resume []byte) error {
	if len(resume) > h.cfg.Resume {
		return fmt.Errorf("%w: %d bytes to resume session %s, at most %d", ErrLimit, len(resume), id, h.cfg.Resume)
	}
	return nil
}

// own returns a session of the edge; nil if it is none.
func (f *Feed) own(id string) *record {
	r, s := f.holder.find(id)
	if f.hears(s) && r != nil && r.home == f.edge && r.claim == nil {
		return r
	}
	return nil
}

func (h *Holder) isFirst(r *record) bool { return h.parts[shard.OfSession(r.id)].First }
