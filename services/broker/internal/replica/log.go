package replica

import (
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// Log is one slot's log at this member, for as long as the process lives; it is
// a [slot.Slot]. The machine calls it only from within its own methods. What
// publishers send is appended by the shell, at its end, and what is committed
// is committed by the shell, as [Effects] say.
type Log interface {
	// Base is the offset before the first entry of the log; 0: there is no log.
	Base() uint64
	// Reset makes the log an empty one at a base, or none (0). The history, the
	// keys and the terms of the old one go with it; the adopted term stays.
	Reset(base uint64)

	// Start is the offset after which entries can be replicated, at most
	// Committed. Those before it are only in the history, if retained.
	Start() uint64
	// End is the offset of the last entry.
	End() uint64
	// Held is how far the log, as it is now, is there again when this member
	// comes back with the same log-id: End in memory, what is synced with a
	// disk. 0 until the base and the adopted term are held as well.
	Held() uint64
	// Committed is the commit mark.
	Committed() uint64
	// Terms are the ends of the terms of the log's entries, oldest first; those
	// that end before Start may be missing. A term without entries is not there.
	Terms() []TermEnd
	// After returns the entries after an offset, Start ≤ offset ≤ End, in order:
	// as many as cost about the given bytes, at least one if there is one. The
	// caller may keep the slice.
	After(offset uint64, bytes int) []*history.Entry
	// Pin keeps the entries after an offset, though they be old, until the next
	// Pin or Reset; the log may give in at a multiple of what it keeps
	// otherwise. NoPin: keep what is kept otherwise.
	Pin(offset uint64)

	// Term is the highest term adopted.
	Term() uint64
	// Adopt makes a term that of the entries appended from now on. It is at
	// least Term.
	Adopt(term uint64) error
	// Replicate appends the next entry as its primary made it.
	Replicate(e *history.Entry) error
	// Cut removes the entries after an offset, Committed ≤ offset, as if they
	// had never been appended.
	Cut(after uint64) error

	// Snapshot is all that is committed, at one offset: history, keys,
	// tombstones, floors and terms. Next returns it piece by piece, at least one
	// and each about the given number of bytes, nil after the last; the log may
	// change meanwhile.
	Snapshot() (offset uint64, next func(bytes int) []byte)
	// Restore takes the pieces of a Snapshot in order; seq 0 begins, whatever
	// came before. With the last one the log becomes what the snapshot holds,
	// all of it committed, and stays as it was until then. It keeps its base and
	// its adopted term. After an error begin again.
	Restore(seq int, piece []byte, last bool) error
}

// NoPin is no offset.
const NoPin = ^uint64(0)

// TermEnd says where the entries of a term end.
type TermEnd = slot.TermEnd
