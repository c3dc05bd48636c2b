package history

import (
	"container/heap"
	"iter"
	"time"
)

// The bounds of a slot unless Config says otherwise.
const (
	DefaultBytes       = 4 << 20
	DefaultTombstones  = 4096
	DefaultPositionTTL = time.Hour
)

// Config sets a History up. The zero value of a bound is its default.
type Config struct {
	// Base is the offset before the first entry.
	Base uint64
	// Class is asked when a channel gets its first retained entry, and for
	// every entry of a channel whose class retains nothing.
	Class func(channel string) Class
	// Bytes bounds the memory of the slot's entries; beyond it the oldest of
	// the slot go first.
	Bytes int
	// Tombstones bounds how many evicted channels are remembered, PositionTTL
	// for how long after their last entry.
	Tombstones  int
	PositionTTL time.Duration
}

// History is one slot's retained entries. Guarded by its slot's lock.
type History struct {
	cfg      Config
	channels map[string]*channel
	order    order
	ages     ages
	gone     tombstones

	committed uint64 // offset of the last entry added
	bytes     int    // footprint of the retained entries
	dropped   uint64 // highest offset ever dropped
	floor     uint64 // no channel that is not remembered has an entry above it
	floorDrop uint64 // when what made the floor was dropped, by the clock below
	drops     uint64 // a clock: how many entries were ever dropped
}

// New returns an empty History.
func New(cfg Config) *History {
	if cfg.Bytes <= 0 {
		cfg.Bytes = DefaultBytes
	}
	if cfg.Tombstones <= 0 {
		cfg.Tombstones = DefaultTombstones
	}
	if cfg.PositionTTL <= 0 {
		cfg.PositionTTL = DefaultPositionTTL
	}
	return &History{
		cfg:       cfg,
		channels:  make(map[string]*channel),
		gone:      tombstones{byName: make(map[string]uint64)},
		committed: cfg.Base,
		dropped:   cfg.Base,
		floor:     cfg.Base,
	}
}

// Tail is where the next entry of a channel goes.
type Tail struct {
	// Name is the channel's name; for a remembered channel the string that its
	// entries share.
	Name string
	// Prev is the prev of the next entry.
	Prev uint64
	// Class is the channel's class.
	Class Class
}

// Tail returns where the next entry of a channel goes.
func (h *History) Tail(name string) Tail {
	if ch, ok := h.channels[name]; ok {
		return Tail{Name: ch.name, Prev: ch.last().Offset, Class: ch.class}
	}
	class := h.cfg.Class(name)
	if !class.Retains() {
		return Tail{Name: name, Class: class}
	}
	if last, ok := h.gone.byName[name]; ok {
		return Tail{Name: name, Prev: last, Class: class}
	}
	return Tail{Name: name, Prev: h.floor, Class: class}
}

// Add takes the next committed entry, and drops what it displaces.
func (h *History) Add(e *Entry) {
	h.committed = e.Offset
	ch, ok := h.channels[e.Channel]
	if !ok {
		class := h.cfg.Class(e.Channel)
		if !class.Retains() {
			return
		}
		ch = h.open(e.Channel, class)
	}
	ch.push(e)
	h.order.push(e)
	h.bytes += e.footprint()
	if ch.class.Age > 0 && !ch.queued() {
		ch.due = ch.expiry()
		heap.Push(&h.ages, ch)
	}
	for ch.overfull() {
		h.dropFirst(ch)
	}
	for h.bytes > h.cfg.Bytes {
		h.dropFirst(h.channels[h.order.first().Channel])
	}
}

func (h *History) open(name string, class Class) *channel {
	ch := &channel{name: name, class: class, drop: h.floorDrop, at: -1}
	if t, ok := h.gone.take(name); ok {
		ch.drop = t.drop
	}
	h.channels[name] = ch
	return ch
}

// dropFirst drops the oldest entry of a channel, and with the last one the
// channel.
func (h *History) dropFirst(ch *channel) {
	e := ch.shift()
	h.order.remove(e.Offset)
	h.bytes -= e.footprint()
	h.dropped = max(h.dropped, e.Offset)
	h.drops++
	ch.drop = h.drops
	if len(ch.entries) > 0 {
		return
	}
	if ch.queued() {
		heap.Remove(&h.ages, ch.at)
	}
	delete(h.channels, ch.name)
	h.gone.put(tombstone{name: ch.name, last: e.Offset, time: e.Time, drop: ch.drop})
	h.bury()
}

// bury forgets what is too much to remember.
func (h *History) bury() {
	for len(h.gone.byLast) > h.cfg.Tombstones {
		h.forget()
	}
}

// forget drops the oldest tombstone.
func (h *History) forget() {
	t := h.gone.pop()
	h.floor = max(h.floor, t.last)
	h.floorDrop = max(h.floorDrop, t.drop)
}

// Expire drops what is too old at now, at most about budget steps, and reports
// whether more is left to drop.
func (h *History) Expire(now time.Time, budget int) bool {
	ms := now.UnixMilli()
	for len(h.ages) > 0 && h.ages[0].due <= ms {
		if budget <= 0 {
			return true
		}
		budget--
		ch := h.ages[0]
		if ch.due = ch.expiry(); ch.due > ms {
			heap.Fix(&h.ages, 0)
			continue
		}
		h.dropFirst(ch)
	}
	for len(h.gone.byLast) > 0 && h.gone.byLast[0].time+h.cfg.PositionTTL.Milliseconds() <= ms {
		if budget <= 0 {
			return true
		}
		budget--
		h.forget()
	}
	return false
}

// After iterates over the retained entries after an offset, in slot order. The
// History must not change meanwhile.
func (h *History) After(offset uint64) iter.Seq[*Entry] { return h.order.after(offset) }

// Committed is the offset of the last entry added, Base if there was none.
func (h *History) Committed() uint64 { return h.committed }

// Bytes is roughly how much memory the entries take.
func (h *History) Bytes() int { return h.bytes }

// Len is how many entries are retained.
func (h *History) Len() int { return h.order.live }
