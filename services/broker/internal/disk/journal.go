package disk

import (
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// Journal keeps one slot's log. It is the [slot.Journal] of it.
type Journal struct {
	store  *Store
	number shard.Slot

	// Guarded by the log's lock.
	held    uint64 // so far the log and what is kept agree
	told    uint64 // changes told
	changed uint64 // the last that was not an entry more, nor a term
	owed    uint64 // the last without which the log could forget its base or term
	kept    uint64 // changes kept
	base    uint64
	commit  uint64

	// Guarded by the store's mu.
	changes []change

	writer writer // the writer's own
}

// change is one of a log.
type change struct {
	kind   kind
	number uint64
	commit uint64 // the mark after it
	offset uint64 // or base, or term
	entry  *history.Entry
	next   func(bytes int) []byte // pieces of a snapshot
}

type kind uint8

const (
	reset kind = iota
	adopt
	add
	cut
	restore    // the log is what the snapshot holds
	checkpoint // the snapshot holds what the log does
)

// changeOverhead is what a change takes beside its entry, roughly.
const changeOverhead = 96

// Mark says how far changes are kept: the number of the last one, and where
// the log ended after it.
type Mark struct{ number, end uint64 }

var _ slot.Journal = (*Journal)(nil)

// Reset implements [slot.Journal].
func (j *Journal) Reset(base uint64) {
	j.base, j.commit = base, base
	j.tell(change{kind: reset, offset: base})
	j.held, j.changed, j.owed = base, j.told, j.told
}

// Adopt implements [slot.Journal].
func (j *Journal) Adopt(term uint64) {
	j.tell(change{kind: adopt, offset: term})
	j.owed = j.told
}

// Append implements [slot.Journal].
func (j *Journal) Append(e *history.Entry) { j.tell(change{kind: add, offset: e.Offset, entry: e}) }

// Cut implements [slot.Journal].
func (j *Journal) Cut(after uint64) {
	j.tell(change{kind: cut, offset: after})
	j.held, j.changed = min(j.held, after), j.told
}

// Commit implements [slot.Journal]. The mark is kept with the next change: it
// may be lower after a restart.
func (j *Journal) Commit(upto uint64) { j.commit = upto }

// Restore implements [slot.Journal].
func (j *Journal) Restore(offset uint64, next func(bytes int) []byte) {
	j.commit = offset
	j.tell(change{kind: restore, offset: offset, next: next})
	j.held, j.changed = j.base, j.told
}

// Checkpoint takes a snapshot of the log as it is now, in place of what the
// log was made of so far.
func (j *Journal) Checkpoint(offset uint64, next func(bytes int) []byte) {
	j.tell(change{kind: checkpoint, offset: offset, next: next})
}

// Held implements [slot.Journal].
func (j *Journal) Held() uint64 {
	if j.kept < j.owed {
		return 0
	}
	return j.held
}

// Full implements [slot.Journal].
func (j *Journal) Full() bool { return j.store.full() }

// Synced takes note of what is kept, as the store told it. The log's lock is
// held.
func (j *Journal) Synced(m Mark) {
	j.kept = m.number
	if j.kept >= j.changed {
		j.held = m.end
	}
}

func (j *Journal) tell(c change) {
	j.told++
	c.number, c.commit = j.told, j.commit
	j.store.put(j, c)
}

func (c *change) cost() int {
	if c.entry == nil {
		return changeOverhead
	}
	return changeOverhead + c.entry.Cost()
}
