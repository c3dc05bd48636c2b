package history

import (
	"container/heap"
	"iter"
	"slices"
	"strings"
	"time"
)

// The bounds of a slot unless Config says otherwise.
const (
	DefaultBytes       = 4 << 20
	DefaultLogBytes    = 8 << 20
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
	// Bytes bounds the memory of the slot's retained entries; beyond it the
	// oldest of the slot go first. Where entries do not go in the order they
	// came, what is gone of a chunk may take up to three times as much again.
	Bytes int
	// LogBytes bounds the memory of the last entries, which are kept for Log
	// whether they are retained or not; those that are take it once.
	LogBytes int
	// Tombstones bounds how many evicted channels are remembered, PositionTTL
	// for how long after their last entry.
	Tombstones  int
	PositionTTL time.Duration
}

// History is one slot's retained entries. Guarded by its slot's lock.
type History struct {
	cfg      Config
	channels map[string]*channel
	classes  []Class // by number
	order    order
	chunks   chunks
	ages     ages
	gone     tombstones

	committed uint64 // offset of the last entry added
	bytes     int    // footprint of the retained entries
	start     uint64 // Log goes back to here
	recent    int    // footprint of the entries after start
	pin       uint64 // those after it stay there, up to a multiple of the bound
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
	if cfg.LogBytes <= 0 {
		cfg.LogBytes = DefaultLogBytes
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
		chunks:    chunks{sizes: defaultSizes()},
		gone:      tombstones{byName: make(map[string]uint64)},
		committed: cfg.Base,
		start:     cfg.Base,
		pin:       noPin,
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
		return Tail{Name: ch.name, Prev: ch.last(), Class: h.classes[ch.class]}
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
	ch := h.channels[e.Channel]
	var class Class
	if ch != nil {
		class = h.classes[ch.class]
	} else if class = h.cfg.Class(e.Channel); class.Retains() {
		ch = h.open(e, class)
	}
	b := e.encoding
	if b == nil {
		b = e.AppendTo(nil)
	}
	p := h.chunks.put(h.classNumber(class), b)
	h.order.push(e.Offset, p, ch != nil)
	h.recent += footprint(len(b))
	if ch != nil {
		h.retain(ch, class, e, len(b))
	}
	h.trim()
}

func (h *History) retain(ch *channel, class Class, e *Entry, size int) {
	ch.offsets = append(ch.offsets, e.Offset)
	ch.bytes += size
	h.bytes += footprint(size)
	if class.Age > 0 && !ch.queued() {
		ch.due = e.Time + class.Age.Milliseconds()
		heap.Push(&h.ages, ch)
	}
	for len(ch.offsets) > class.Messages || class.Bytes > 0 && ch.bytes > class.Bytes {
		h.dropFirst(ch)
	}
	for h.bytes > h.cfg.Bytes {
		h.dropFirst(h.channels[h.chunks.at(h.order.items[h.order.first()].place).Channel()])
	}
}

// footprint is how many bytes of memory an entry of an encoded size takes with
// its places in the indexes, which have room to grow.
func footprint(size int) int {
	const places = 24
	return size + places + places/3
}

func (h *History) open(first *Entry, class Class) *channel {
	ch := &channel{
		name: strings.Clone(first.Channel), // not all that it was sent with
		gone: first.Prev, drop: h.floorDrop, class: int32(h.classNumber(class)), at: -1,
	}
	if t, ok := h.gone.take(ch.name); ok {
		ch.drop = t.drop
	}
	h.channels[ch.name] = ch
	return ch
}

// classNumber is the index of a class, of which there are few.
func (h *History) classNumber(class Class) int {
	i := slices.Index(h.classes, class)
	if i < 0 {
		i = h.chunks.class()
		h.classes = append(h.classes, class)
	}
	return i
}

// dropFirst drops the oldest entry of a channel, and with the last one the
// channel.
func (h *History) dropFirst(ch *channel) {
	offset := ch.first()
	i, _ := h.order.find(offset)
	p := h.order.items[i].place
	size, e := h.chunks.size(p), h.chunks.at(p)
	ch.offsets = ch.offsets[1:]
	ch.bytes -= size
	h.bytes -= footprint(size)
	h.dropped = max(h.dropped, offset)
	h.drops++
	ch.gone, ch.drop = offset, h.drops
	h.order.unretain(i)
	if offset <= h.start {
		h.order.remove(i)
		h.release(p)
	}
	if len(ch.offsets) > 0 {
		return
	}
	if ch.queued() {
		heap.Remove(&h.ages, int(ch.at))
	}
	delete(h.channels, ch.name)
	h.gone.put(tombstone{name: ch.name, last: offset, time: e.time(), drop: ch.drop})
	h.bury()
}

// bury forgets what is too much to remember.
func (h *History) bury() {
	for len(h.gone.byLast) > h.cfg.Tombstones {
		h.forget()
	}
}

// release gives back the bytes of an entry that is kept no more.
func (h *History) release(p place) {
	sparse := h.chunks.release(p)
	if sparse < 0 {
		return
	}
	h.chunks.copyOut(sparse, func(offset uint64, at place) *place {
		i, ok := h.order.find(offset)
		if !ok || h.order.items[i].empty() || h.order.items[i].place != at {
			return nil
		}
		return &h.order.items[i].place
	})
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
		if ch.due = h.expiry(ch); ch.due > ms {
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

// expiry is when the first entry of a channel is too old, in milliseconds.
func (h *History) expiry(ch *channel) int64 {
	return h.at(ch.first()).time() + h.classes[ch.class].Age.Milliseconds()
}

// at is a kept entry.
func (h *History) at(offset uint64) Encoded {
	i, _ := h.order.find(offset)
	return h.chunks.at(h.order.items[i].place)
}

// After iterates over the retained entries after an offset, in slot order. The
// History must not change meanwhile.
func (h *History) After(offset uint64) iter.Seq[Encoded] {
	return func(yield func(Encoded) bool) {
		for p := range h.order.after(offset) {
			if !yield(h.chunks.at(p)) {
				return
			}
		}
	}
}

// Committed is the offset of the last entry added, Base if there was none.
func (h *History) Committed() uint64 { return h.committed }

// Bytes is roughly how much memory the retained entries take.
func (h *History) Bytes() int { return h.bytes }

// Len is how many entries are retained.
func (h *History) Len() int { return h.order.retained }
