package slot

import "github.com/comet-push/comet/services/broker/internal/history"

// pinned is how many times the bound is kept for a copy that catches up.
const pinned = 4

// noPin is no offset.
const noPin = ^uint64(0)

// recent is the committed end of the log as copies catch up from it: the last
// entries that cost no more than a bound, whatever history retains of them.
type recent struct {
	bound   int
	pin     uint64           // entries after it stay, up to a multiple of bound
	entries []*history.Entry // dense; the last is at the commit mark
	cost    int
}

func (r *recent) push(e *history.Entry) {
	r.entries = append(r.entries, e)
	r.cost += e.Cost()
	r.trim()
}

func (r *recent) trim() {
	for r.cost > r.bound && (r.entries[0].Offset <= r.pin || r.cost > pinned*r.bound) {
		r.cost -= r.entries[0].Cost()
		r.entries[0] = nil
		r.entries = r.entries[1:]
	}
}

// Start is the offset after which After can tell.
func (s *Slot) Start() uint64 { return s.committed - uint64(len(s.recent.entries)) }

// After returns the entries after an offset, Start ≤ offset ≤ End: as many as
// cost about the given bytes, at least one if there is one.
func (s *Slot) After(offset uint64, bytes int) []*history.Entry {
	var after []*history.Entry
	for offset < s.end {
		offset++
		e := s.at(offset)
		if bytes -= e.Cost(); bytes < 0 && len(after) > 0 {
			break
		}
		after = append(after, e)
	}
	return after
}

// at is the entry at an offset, Start < offset ≤ End.
func (s *Slot) at(offset uint64) *history.Entry {
	if offset <= s.committed {
		return s.recent.entries[offset-s.Start()-1]
	}
	return s.tail[offset-s.committed-1]
}

// Pin keeps the entries after an offset for After, though they be old, until
// the next Pin or Reset, but not more than four times what is kept otherwise.
// The highest offset there is pins nothing.
func (s *Slot) Pin(offset uint64) {
	s.recent.pin = offset
	s.recent.trim()
}
