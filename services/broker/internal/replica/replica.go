// Package replica is the seam between a slot's log and the copies of it.
//
// A primary appends, tells its Set, and commits what the Set says all members
// hold; nothing else moves the commit mark. With one copy the Set is Sole.
package replica

// Set is the in-sync set a primary waits for, of one slot and term.
type Set interface {
	// Appended tells that the primary's log now ends at end and returns the
	// highest offset that every member holds; it never decreases and never
	// exceeds end. It is called under the slot's lock and must not block.
	Appended(end uint64) (held uint64)
}

// Sole is the set of a slot with one copy: what the primary has appended is
// held by all.
type Sole struct{}

// Appended implements [Set].
func (Sole) Appended(end uint64) uint64 { return end }
