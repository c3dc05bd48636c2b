// Package slot is one slot's log at its primary. Being written.
package slot

import (
	"time"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// Slot is one slot's log. Guarded by the caller's lock.
type Slot struct{}

// New returns an empty log.
func New(cfg Config) *Slot { panic("not yet") }

// Append appends a publication, or finds it appended before by its key.
func (s *Slot) Append(p Publication, now time.Time) (Result, error) { panic("not yet") }

// Commit moves the commit mark and returns the entries it passed, to be fanned
// out before the next call.
func (s *Slot) Commit(upto uint64) []*history.Entry { panic("not yet") }

// Read answers a query at the primary; ErrAhead: wait for a commit.
func (s *Slot) Read(q history.Query) (history.Page, error) { panic("not yet") }

// Expire drops what is too old, a bounded piece; true: call again.
func (s *Slot) Expire(now time.Time, budget int) bool { panic("not yet") }

// Term is the primary's term.
func (s *Slot) Term() uint64 { panic("not yet") }

// Base is the offset before the first entry.
func (s *Slot) Base() uint64 { panic("not yet") }

// End is the offset of the last entry, committed or not.
func (s *Slot) End() uint64 { panic("not yet") }

// Committed is the commit mark.
func (s *Slot) Committed() uint64 { panic("not yet") }

// History is what is retained of the committed log.
func (s *Slot) History() *history.History { panic("not yet") }
