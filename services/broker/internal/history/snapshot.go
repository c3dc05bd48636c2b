package history

import (
	"errors"
	"fmt"
	"slices"
)

// Snapshot is all that a History can answer from. It stays as it is while the
// History changes.
type Snapshot struct {
	// Committed is the offset it is of.
	Committed uint64
	// Floor is the highest offset of channels that are not remembered, Dropped
	// that of anything that is no longer retained.
	Floor, Dropped uint64
	// Tombstones are the channels without retained entries, by their last.
	Tombstones []Tombstone

	places []place
	chunks [][]byte
}

// Len is how many entries are retained.
func (s *Snapshot) Len() int { return len(s.places) }

// AppendEntry appends the encoding of a retained entry; they are in the order
// of their offsets.
func (s *Snapshot) AppendEntry(b []byte, i int) []byte {
	p := s.places[i]
	e := Encoded{s.chunks[p.chunk()][p.at():]}
	return append(b, e.bytes[:e.size()]...)
}

// Tombstone is what is remembered of a channel without retained entries: the
// offset and time of its last entry.
type Tombstone struct {
	Channel string
	Last    uint64
	Time    int64
}

// Snapshot takes a snapshot.
func (h *History) Snapshot() *Snapshot {
	s := &Snapshot{Committed: h.committed, Floor: h.floor, Dropped: h.dropped}
	s.Tombstones = make([]Tombstone, len(h.gone.byLast))
	for i, t := range h.gone.byLast {
		s.Tombstones[i] = Tombstone{t.name, t.last, t.time}
	}
	s.places = slices.AppendSeq(make([]place, 0, h.order.retained), h.order.after(0))
	s.chunks = make([][]byte, len(h.chunks.all))
	for i, c := range h.chunks.all {
		s.chunks[i] = c.data
	}
	return s
}

// ErrInconsistent says that no History could have taken such a snapshot.
var ErrInconsistent = errors.New("inconsistent snapshot")

// Restorer makes a History of what a Snapshot has. Tombstones come before
// entries, each in the order they have there. What the bounds of the new
// History are too small for is dropped.
type Restorer struct {
	h    *History
	last struct{ tombstone, entry, term uint64 }
	time int64 // of the last entry
	end  uint64
}

// NewRestorer begins with what a Snapshot has but for tombstones and entries.
func NewRestorer(cfg Config, committed, floor, dropped uint64) (*Restorer, error) {
	if committed < cfg.Base || floor < cfg.Base || floor > committed || dropped < cfg.Base || dropped > committed {
		return nil, fmt.Errorf("%w: floor %d, dropped %d, committed %d", ErrInconsistent, floor, dropped, committed)
	}
	h := New(cfg)
	h.floor, h.dropped = floor, dropped
	// Whatever is gone was gone before anybody looked at the clock of drops.
	h.drops, h.floorDrop = 1, 1
	return &Restorer{h: h, end: committed}, nil
}

// Tombstone takes the next tombstone.
func (r *Restorer) Tombstone(t Tombstone) error {
	_, twice := r.h.gone.byName[t.Channel]
	if t.Channel == "" || twice || t.Last <= max(r.last.tombstone, r.h.cfg.Base) || t.Last > r.h.dropped {
		return fmt.Errorf("%w: tombstone %d of %q after %d", ErrInconsistent, t.Last, t.Channel, r.last.tombstone)
	}
	r.last.tombstone = t.Last
	r.h.gone.put(tombstone{name: t.Channel, last: t.Last, time: t.Time, drop: 1})
	r.h.bury()
	return nil
}

// Entry takes the next entry.
func (r *Restorer) Entry(e *Entry) error {
	last := r.h.gone.byName[e.Channel]
	if ch, ok := r.h.channels[e.Channel]; ok {
		last = ch.last()
	}
	switch {
	case e.Channel == "" || e.Offset <= max(r.last.entry, r.h.cfg.Base) || e.Offset > r.end,
		e.Prev >= e.Offset, e.Prev < last, e.Term < r.last.term, e.Time < r.time:
		return fmt.Errorf("%w: entry %d of %q after %d", ErrInconsistent, e.Offset, e.Channel, r.last.entry)
	}
	r.last.entry, r.last.term, r.time = e.Offset, e.Term, e.Time
	r.h.start = e.Offset - 1
	r.h.Add(e)
	for r.h.start < e.Offset { // what is before it may be missing
		r.h.leave()
	}
	return nil
}

// History is what was restored.
func (r *Restorer) History() *History {
	r.h.committed, r.h.start = r.end, r.end
	return r.h
}
