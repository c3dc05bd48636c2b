package hub

import (
	"slices"

	"github.com/comet-push/comet/services/edge/internal/event"
)

// ring is the newest events of a channel: all in (from, through of the slot].
type ring struct {
	from   uint64
	bytes  int
	events []*event.Event
}

// push appends an event and returns by how much the ring grew.
func (r *ring) push(e *event.Event, cfg *Config, room int) int {
	before := r.bytes
	r.events = append(r.events, e)
	r.bytes += e.Size()
	drop, size := 0, r.bytes
	for drop < len(r.events) && (len(r.events)-drop > cfg.RingMessages || size > cfg.RingBytes || size-before > room) {
		size -= r.events[drop].Size()
		drop++
	}
	if drop > 0 {
		r.from = r.events[drop-1].At.Offset
		r.events = slices.Delete(r.events, 0, drop)
		r.bytes = size
	}
	return r.bytes - before
}

func (r *ring) reset(from uint64) {
	*r = ring{from: from}
}

// after returns a copy of the events after a position, at most limit, and
// whether there are more.
func (r *ring) after(since uint64, limit int) (events []*event.Event, more bool) {
	first, _ := slices.BinarySearchFunc(r.events, since+1, func(e *event.Event, at uint64) int {
		switch offset := e.At.Offset; {
		case offset < at:
			return -1
		case offset > at:
			return 1
		}
		return 0
	})
	events = r.events[first:]
	if more = len(events) > limit; more {
		events = events[:limit]
	}
	return slices.Clone(events), more
}
