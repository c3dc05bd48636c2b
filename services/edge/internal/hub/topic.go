package hub

import (
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// topic is a channel or pattern that is wanted, or was until now. Unless it
// says otherwise everything is guarded by the lock of its place.
type topic[S Subscriber] struct {
	name string

	asked  bool // upstream was asked to join
	joined bool // upstream has joined
	since  uint64
	slots  *[shard.Slots]uint64 // of a pattern, instead of since

	members members[S]
	readers atomic.Int32 // fan-outs that go through members without the lock
	version uint32       // of members.list: each replaced array is another one

	waiting []waiter[S]
	ring    ring
	links   links[S] // guarded by lingering
}

// waiter is a subscriber that waits for upstream to join.
type waiter[S Subscriber] struct {
	sub   S
	token uint64
	since time.Time
}

func (t *topic[S]) idle() bool { return len(t.members.list) == 0 && len(t.waiting) == 0 }

func (t *topic[S]) remove(sub S) {
	if t.members.remove(sub, t.readers.Load() > 0) {
		t.version++
		t.readers.Store(0)
	}
}

// borrow returns the members for a fan-out without the lock. It and giveBack
// need the lock for reading only.
func (t *topic[S]) borrow() loan[S] {
	t.readers.Add(1)
	return loan[S]{t, t.members.list, t.version}
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
	version uint32
}

// passed reports whether an entry is not to be handed out through the topic: it
// was committed before upstream joined.
func (t *topic[S]) passed(at shard.Position) bool { return at.Offset <= t.after(at.Slot) }

// after is where upstream began to hand over what comes of a slot.
func (t *topic[S]) after(slot shard.Slot) uint64 {
	if t.slots != nil {
		return t.slots[slot]
	}
	return t.since
}

// lose says that upstream goes on after a position.
func (t *topic[S]) lose(at shard.Position) {
	if t.slots != nil {
		t.slots[at.Slot] = max(t.slots[at.Slot], at.Offset)
	} else {
		t.since = max(t.since, at.Offset)
	}
}
