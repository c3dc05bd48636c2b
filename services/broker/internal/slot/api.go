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

// Config sets a slot up. The zero value of a bound is its default.
type Config struct {
	// Term is the primary's term, Base the offset before the first entry.
	Term, Base uint64
	// Retention is what is kept of the log; its Base is set by New.
	Retention history.Config
	// UncommittedBytes bounds the payload that waits for its commit.
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
}

// Result says where a publication stands. It is acknowledged once the commit
// mark has reached Offset, duplicate or not (CORRECTNESS rule 13).
type Result struct {
	Offset    uint64
	Duplicate bool
}
