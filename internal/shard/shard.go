// Package shard says which slot a channel belongs to, who owns a slot, how a
// place in one or many slots is written down, and which presence processes hold
// the record of a session.
//
//  1. A channel belongs to one slot for ever: Of is a pure function.
//  2. Nobody computes owners; they are read from a Table, which is a snapshot
//     of rows that the controller wrote by compare-and-swap.
//  3. A position is one number below 2^53. It is valid in a row iff
//     Base ≤ position ≤ end of the log.
//  4. A session belongs to one presence shard for ever: OfSession is a pure
//     function. Nobody computes holders either; a HolderTable has them, whose
//     rows the controller alone writes.
package shard

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Slots is how many slots channels are spread over.
const Slots = 256

// MaxPosition is the first number that is not a position.
const MaxPosition = 1 << 53

// Slot is the number of a slot, from 0 to Slots-1.
type Slot uint32

// Of returns the slot of a literal channel.
func Of(channel string) Slot {
	return Slot(xxhash.Sum64String(channel) % Slots)
}

// Position is an offset in a slot.
type Position struct {
	Slot   Slot
	Offset uint64
}

// Row says who owns a slot. Members are named name@log-id: a process that came
// back with an empty log is another member (CORRECTNESS rule 2).
type Row struct {
	// Term rises when the primary changes.
	Term uint64 `json:"term"`
	// Primary is the member that orders the slot's log; empty: nobody.
	Primary string `json:"primary"`
	// Addr is the private gRPC address at which the primary was announced, for
	// those who were not there.
	Addr string `json:"addr,omitempty"`
	// InSync are the members that hold everything committed, Primary included.
	InSync []string `json:"insync"`
	// Replicas are the members that should hold the log, the one first that
	// should be its primary. Safety does not depend on it.
	Replicas []string `json:"replicas"`
	// Base is the offset before the log's first entry; it only grows.
	Base uint64 `json:"base"`
	// UncleanAfter is after how much silence of all of InSync the slot may start
	// anew, in nanoseconds; 0: never. A primary that is alone in InSync does not
	// acknowledge once it has been cut off for half of it (CORRECTNESS rule 4).
	// It changes only with the term, or by the primary: so the primary knows it.
	UncleanAfter time.Duration `json:"unclean_after,omitempty"`
	// Version rises with every change of the row; 0: never written.
	Version int64 `json:"-"`
}

// MarshalText returns the row as it is stored.
func (r Row) MarshalText() ([]byte, error) {
	type plain Row
	return json.Marshal(plain(r))
}

// ParseRow reads what MarshalText wrote; version is the store's.
func ParseRow(text []byte, version int64) (Row, error) {
	type plain Row
	var r plain
	if err := json.Unmarshal(text, &r); err != nil {
		return Row{}, fmt.Errorf("parse slot row: %w", err)
	}
	r.Version = version
	return Row(r), nil
}

// NextBase is the base of a log that starts anew after one with the given
// base: higher than every offset of the old one (CORRECTNESS rule 26).
func NextBase(previous uint64, now time.Time) uint64 {
	const step = 1 << 21
	base := max(previous+step, uint64(max(now.Unix(), 0))*step)
	return min(base, MaxPosition-1)
}

// Table is a snapshot of all rows. It is immutable; the zero Table has no owners.
type Table struct {
	rows [Slots]Row
}

// Row returns the row of a slot.
func (t *Table) Row(s Slot) Row {
	if t == nil || s >= Slots {
		return Row{}
	}
	return t.rows[s]
}

// With returns a copy of the table in which the given rows are replaced; rows
// of a lower version than the present ones are ignored.
func (t *Table) With(rows map[Slot]Row) *Table {
	next := &Table{}
	if t != nil {
		next.rows = t.rows
	}
	for s, r := range rows {
		if s < Slots && r.Version >= next.rows[s].Version {
			next.rows[s] = r
		}
	}
	return next
}

// Owned returns the slots whose primary is the given member, in order.
func (t *Table) Owned(member string) []Slot {
	var owned []Slot
	for s := range Slot(Slots) {
		if t.Row(s).Primary == member {
			owned = append(owned, s)
		}
	}
	return owned
}

// Complete reports whether every slot has a primary.
func (t *Table) Complete() bool {
	return t != nil && !slices.ContainsFunc(t.rows[:], func(r Row) bool { return r.Primary == "" })
}

// Hint is the short mark of a member that a session's public id begins with:
// eight hex digits.
func Hint(member string) string {
	return fmt.Sprintf("%08x", uint32(xxhash.Sum64String(member)))
}
