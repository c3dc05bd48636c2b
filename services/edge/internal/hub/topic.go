package hub

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// topic is a channel or pattern that is wanted, or was until now. Everything is
// guarded by the lock of its place.
type topic[S Subscriber] struct {
	name string

	asked  bool // upstream was asked to join
	joined bool // upstream has joined
	since  uint64
	slots  *[shard.Slots]uint64 // of a pattern, instead of since

	members []S
	index   map[S]int    // of members, once they are many
	readers atomic.Int32 // fan-outs that go through members without the lock
	version int          // of members: each replaced array is another one

	waiting []waiter[S]
	ring    ring
}

// waiter is a subscriber that waits for upstream to join.
type waiter[S Subscriber] struct {
	sub   S
	token uint64
	since time.Time
}

// few is how many members are found fast enough without an index.
const few = 16

func (t *topic[S]) idle() bool { return len(t.members) == 0 && len(t.waiting) == 0 }

func (t *topic[S]) find(sub S) int {
	if t.index == nil {
		return slices.Index(t.members, sub)
	}
	if i, ok := t.index[sub]; ok {
		return i
	}
	return -1
}

// add appends, which a fan-out under way does not see.
func (t *topic[S]) add(sub S) {
	if t.find(sub) >= 0 {
		return
	}
	t.members = append(t.members, sub)
	switch {
	case t.index != nil:
		t.index[sub] = len(t.members) - 1
	case len(t.members) > few:
		t.index = make(map[S]int, 2*few)
		for i, m := range t.members {
			t.index[m] = i
		}
	}
}

// remove puts the last member in the place of the removed one, in a copy if a
// fan-out goes through the members.
func (t *topic[S]) remove(sub S) {
	i := t.find(sub)
	if i < 0 {
		return
	}
	if t.readers.Load() > 0 {
		t.replace(slices.Clone(t.members))
	}
	last := len(t.members) - 1
	moved := t.members[last]
	t.members[i] = moved
	var none S
	t.members[last] = none
	t.members = t.members[:last]
	if t.index != nil {
		t.index[moved] = i
		delete(t.index, sub)
	}
	if last == 0 {
		t.replace(nil)
		t.index = nil
	}
}

func (t *topic[S]) replace(members []S) {
	t.members = members
	t.version++
	t.readers.Store(0)
}

// borrow returns the members for a fan-out without the lock. It and giveBack
// need the lock for reading only.
func (t *topic[S]) borrow() loan[S] {
	t.readers.Add(1)
	return loan[S]{t, t.members, t.version}
}

func (t *topic[S]) giveBack(l loan[S]) {
	if t.version == l.version {
		t.readers.Add(-1)
	}
}

// loan is the members that a topic had, and has not changed since.
type loan[S Subscriber] struct {
	topic   *topic[S]
	members []S
	version int
}

// passed reports whether an entry is not to be handed out through the topic: it
// was committed before upstream joined.
func (t *topic[S]) passed(at shard.Position) bool {
	if t.slots != nil {
		return at.Offset <= t.slots[at.Slot]
	}
	return at.Offset <= t.since
}

// ring is the newest events of a channel: all in (from, through of the slot].
type ring struct {
	from   uint64
	bytes  int
	events []*event.Event
}

// push appends an event and returns by how much the ring grew.
func (r *ring) push(e *event.Event, cfg *Config, room int) int {
	before := r.bytes
	r.events = append(r.events, e)
	r.bytes += e.Size()
	drop, size := 0, r.bytes
	for drop < len(r.events) && (len(r.events)-drop > cfg.RingMessages || size > cfg.RingBytes || size-before > room) {
		size -= r.events[drop].Size()
		drop++
	}
	if drop > 0 {
		r.from = r.events[drop-1].At.Offset
		r.events = slices.Delete(r.events, 0, drop)
		r.bytes = size
	}
	return r.bytes - before
}

func (r *ring) reset(from uint64) {
	*r = ring{from: from}
}

// after returns a copy of the events after a position, at most limit, and
// whether there are more.
func (r *ring) after(since uint64, limit int) (events []*event.Event, more bool) {
	first, _ := slices.BinarySearchFunc(r.events, since+1, func(e *event.Event, at uint64) int {
		switch offset := e.At.Offset; {
		case offset < at:
			return -1
		case offset > at:
			return 1
		}
		return 0
	})
	events = r.events[first:]
	if more = len(events) > limit; more {
		events = events[:limit]
	}
	return slices.Clone(events), more
}
