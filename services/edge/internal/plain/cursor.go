package plain

import (
	"slices"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// many is what a reader of several channels or of patterns has.
type many struct {
	channels []string
	// bases are the slots, in order, of which the hub may still hand over
	// entries that the client has: up to the offset. A slot is left out as soon
	// as the hub is known to be past it, so that a stream that lasts has none.
	bases []shard.Position
}

func (m *many) find(slot shard.Slot) (int, bool) {
	return slices.BinarySearchFunc(m.bases, slot, func(p shard.Position, slot shard.Slot) int {
		return int(p.Slot) - int(slot)
	})
}

func (m *many) base(slot shard.Slot) uint64 {
	if i, ok := m.find(slot); ok {
		return m.bases[i].Offset
	}
	return 0
}

// first reports whether an interest is the first of those that match a channel.
// All have been joined, so each of them is given every entry; one passes it on.
func (m *many) first(via, channel string) bool {
	for _, c := range m.channels {
		if c == via {
			return true
		}
		if bayeux.Match(c, channel) {
			return false
		}
	}
	return false
}

// live says that entries of a slot after a position are sent as they come.
func (r *Reader) live(p shard.Position) {
	if r.many == nil {
		r.at = max(r.at, p.Offset)
		return
	}
	i, known := r.many.find(p.Slot)
	switch {
	case p.Offset <= r.cfg.Handed(p.Slot):
	case known:
		r.many.bases[i].Offset = max(r.many.bases[i].Offset, p.Offset)
	default:
		r.many.bases = slices.Insert(r.many.bases, i, p)
	}
}

// cursor is where a client goes on that was sent everything until now.
func (r *Reader) cursor() string {
	if r.start != nil {
		if word := r.start.word(); word != "" {
			return word
		}
	}
	at := map[shard.Slot]uint64{}
	if r.many == nil {
		slot := shard.Of(r.channel)
		at[slot] = max(r.at, r.cfg.Handed(slot))
	} else {
		r.prune()
		for _, slot := range shard.SlotsOf(r.many.channels) {
			at[slot] = max(r.many.base(slot), r.cfg.Handed(slot))
		}
	}
	if r.start != nil {
		for _, p := range r.start.slots {
			at[p.slot] = p.at
		}
	}
	if r.queue != nil {
		for _, i := range r.queue.items {
			at[i.event.At.Slot] = min(at[i.event.At.Slot], i.event.At.Offset-1)
		}
	}
	return shard.FormatCursor(r.channels(), at)
}

// prune forgets where slots began that the hub has passed.
func (r *Reader) prune() {
	r.many.bases = slices.DeleteFunc(r.many.bases, func(p shard.Position) bool {
		return p.Offset <= r.cfg.Handed(p.Slot)
	})
	if len(r.many.bases) < cap(r.many.bases)/2 {
		r.many.bases = slices.Clone(r.many.bases)
	}
}

// union returns the list with what it did not have.
func union(list, more []string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
