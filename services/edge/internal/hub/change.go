package hub

import (
	"maps"
	"slices"
	"sync"
)

// Change is a channel or pattern that upstream is to join or leave.
type Change struct {
	Channel string
	Join    bool
}

// dirty is the topics whose subscribers may want another thing than upstream
// was asked for, and those that wait for it.
type dirty[S Subscriber] struct {
	signal chan struct{} // of one

	mu      sync.Mutex // leaf: taken with the lock of a place held
	topics  []*topic[S]
	pending map[*topic[S]]struct{}
}

func (d *dirty[S]) mark(t *topic[S]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.topics = append(d.topics, t)
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

func (d *dirty[S]) take() []*topic[S] {
	d.mu.Lock()
	defer d.mu.Unlock()
	topics := d.topics
	d.topics = nil
	return topics
}

func (d *dirty[S]) asked(t *topic[S]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending == nil {
		d.pending = map[*topic[S]]struct{}{}
	}
	d.pending[t] = struct{}{}
}

func (d *dirty[S]) joined(t *topic[S]) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pending, t)
}

func (d *dirty[S]) waiting() []*topic[S] {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.pending))
}

// Changed has a value when Changes may have something new.
func (h *Hub[S]) Changed() <-chan struct{} { return h.dirty.signal }

// Changes calls ask for everything that upstream is to be asked now, in order.
// It must not run twice at once. What came and went since the last time is not
// asked for.
func (h *Hub[S]) Changes(ask func(Change)) {
	for _, t := range h.dirty.take() {
		if c, ok := h.change(t); ok {
			ask(c)
		}
	}
}

func (h *Hub[S]) change(t *topic[S]) (Change, bool) {
	p, unlock := h.lock(t.name)
	defer unlock()
	switch {
	case p.get(t.name) != t: // dropped since it was marked
		return Change{}, false
	case t.idle() && !h.linger.holds(t):
		p.drop(t)
		h.dirty.joined(t)
		return Change{Channel: t.name}, t.asked
	case t.asked:
		return Change{}, false
	}
	t.asked = true
	h.dirty.asked(t)
	return Change{Channel: t.name, Join: true}, true
}
