// Package history is what one slot retains of its committed log. Being written.
package history

import (
	"iter"
	"time"
)

// Config sets a History up. The zero value of a bound is its default.
type Config struct {
	// Base is the offset before the first entry.
	Base uint64
	// Class is asked when a channel gets its first entry.
	Class func(channel string) Class
	// Bytes bounds the memory of the whole slot.
	Bytes int
	// Tombstones bounds how many evicted channels are remembered, PositionTTL
	// for how long after their last entry.
	Tombstones  int
	PositionTTL time.Duration
}

// History is one slot's retained entries. Guarded by its slot's lock.
type History struct{}

// New returns an empty History.
func New(cfg Config) *History { panic("not yet") }

// Add takes the next committed entry.
func (h *History) Add(e *Entry) { panic("not yet") }

// Prev returns the prev of the next entry of a channel.
func (h *History) Prev(channel string) uint64 { panic("not yet") }

// Class returns the class of a channel.
func (h *History) Class(channel string) Class { panic("not yet") }

// Read answers a query. Positions must be valid (see package slot).
func (h *History) Read(q Query) Page { panic("not yet") }

// Complete reports whether all entries of a channel or pattern after since are retained.
func (h *History) Complete(channel string, since uint64) bool { panic("not yet") }

// After iterates over the retained entries after an offset, in slot order.
func (h *History) After(offset uint64) iter.Seq[*Entry] { panic("not yet") }

// Last returns the offset of the last entry of a channel, 0 if not remembered.
func (h *History) Last(channel string) uint64 { panic("not yet") }

// List returns channels with retained entries that match a pattern, by name after a name.
func (h *History) List(pattern, after string, limit int) []Info { panic("not yet") }

// Expire drops up to budget entries that are too old, and reports whether more are left.
func (h *History) Expire(now time.Time, budget int) bool { panic("not yet") }

// Committed is the offset of the last entry added.
func (h *History) Committed() uint64 { panic("not yet") }

// Bytes is roughly how much memory is taken.
func (h *History) Bytes() int { panic("not yet") }
