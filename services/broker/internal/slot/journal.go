package slot

import "github.com/comet-push/comet/services/broker/internal/history"

// Journal keeps a log beyond its process. It is told of every change, in order
// and under the log's lock, and does not block; what it is given never changes.
type Journal interface {
	// Reset: the log is an empty one at a base, or none (0).
	Reset(base uint64)
	// Adopt: what is appended from now on is of this term.
	Adopt(term uint64)
	// Append: the log has one more entry.
	Append(e *history.Entry)
	// Cut: the entries after an offset are gone.
	Cut(after uint64)
	// Commit: the commit mark has moved.
	Commit(upto uint64)
	// Restore: the log is what a snapshot holds, as Snapshot returns it.
	Restore(offset uint64, next func(bytes int) []byte)
	// Held is how far the log is there again when its member comes back with
	// the same log-id; 0 until its base and its term are as well.
	Held() uint64
	// Full: nothing more should be appended before some of it is kept.
	Full() bool
}

// Keep has a journal told of every change from now on. What the log holds now
// the journal must have.
func (s *Slot) Keep(j Journal) { s.journal = j }
