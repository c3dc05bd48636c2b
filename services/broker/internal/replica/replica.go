// Package replica is the seam between a slot's log and its copies, with the
// only set there is yet: one copy.
//
// After every append the primary tells its [Set] where the log ends, and
// commits what the Set says every member holds. Nothing else moves a commit
// mark:
//
//	result, err := log.Append(publication, now)
//	fanout.Publish(log.Commit(set.Appended(log.End())))
//
// With more copies Appended returns what was held before, and the primary calls
// Commit again as acknowledgements come in; slots, history and fan-out already
// work that way, since they treat what is not committed as not there.
//
// Of the invariants of CORRECTNESS, with one copy these hold: R1, R3 (rows and
// member names, package membership), R5 (offsets are dense, one writer), R6 and
// R7 trivially (the set is the primary), R9 to R13 (packages slot and history),
// R14 (a mark is backed by the only member), R15 (a new log only when the old
// one is known to be lost, or was given up in an orderly move; package
// placement). R2, R4 and R8 speak of other copies.
package replica

// Set is the in-sync set a primary waits for, in one slot and term.
type Set interface {
	// Appended tells that the primary's log now ends at end, and returns the
	// highest offset that every member is known to hold. That never decreases
	// and never exceeds end. It is called with the slot's lock held and must
	// not block.
	Appended(end uint64) (held uint64)
}

// Sole is the set of a slot with one copy: whatever the primary has appended is
// held by all.
type Sole struct{}

// Appended implements [Set].
func (Sole) Appended(end uint64) uint64 { return end }
