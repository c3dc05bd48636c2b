package slot

import (
	"errors"
	"time"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// The refusals of Append and Read.
var (
	// ErrKeyReused: the idempotency key was used for other bytes.
	ErrKeyReused = errors.New("the idempotency key was used for another message")
	// ErrBusy: too many bytes wait for their commit.
	ErrBusy = errors.New("too much waits to be committed")
	// ErrTooLarge: the payload is larger than the channel's class allows.
	ErrTooLarge = errors.New("message larger than its channel allows")
	// ErrExhausted: the slot has run out of offsets.
	ErrExhausted = errors.New("no offsets left in the slot")
	// ErrAhead: the position is in the log but not yet committed; ask again
	// after the next commit.
	ErrAhead = errors.New("position not yet committed")
)

// The refusals of Replicate, Cut and Adopt; ErrOldTerm also of Append.
var (
	// ErrNotNext: the log has the entry's offset already, or one between the
	// log's end and the entry is missing.
	ErrNotNext = errors.New("not the next entry")
	// ErrOldTerm: the log has, or is in, a later term.
	ErrOldTerm = errors.New("term before the log's last")
	// ErrPrev: the entry's prev does not come before it.
	ErrPrev = errors.New("one that comes before the entry is needed")
	// ErrOldTime: the log's last entry is younger.
	ErrOldTime = errors.New("time before the log's last")
	// ErrCommitted: what is committed is not cut.
	ErrCommitted = errors.New("committed entries stay")
)

// Config sets a slot up. The zero value of a bound is its default.
type Config struct {
	// Term is what is appended in until Adopt says otherwise, Base the offset
	// before the first entry.
	Term, Base uint64
	// Retention is what is kept of the log for readers; its Base and LogBytes are
	// set by New.
	Retention history.Config
	// LogBytes bounds the memory of the last committed entries, which are kept
	// for copies to catch up, whatever is retained of them; what is takes it once.
	LogBytes int
	// UncommittedBytes bounds the cost of the entries that wait for their
	// commit.
	UncommittedBytes int
	// KeyWindow is how long an idempotency key is remembered, and Keys how many
	// are: beyond it the oldest go first.
	KeyWindow time.Duration
	Keys      int
}

// Publication is what a publisher wants appended. The slot keeps the slices.
type Publication struct {
	Channel            string
	Data, Ext, Members []byte
	Session, ID, Key   string
	// Fresh: the key was made for this publication, which nobody has sent before.
	Fresh bool
}

// Result says where a publication stands. It is acknowledged once the commit
// mark has reached Offset, duplicate or not (CORRECTNESS rule 13).
type Result struct {
	Offset    uint64
	Duplicate bool
}
