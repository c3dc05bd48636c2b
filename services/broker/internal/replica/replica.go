package replica

// Set is the seam between a slot's log and its copies while there is only one:
// the in-sync set a primary waits for, in one slot and term.
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
