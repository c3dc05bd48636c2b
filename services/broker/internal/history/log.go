package history

// noPin is no offset.
const noPin = ^uint64(0)

// pinned is how many times LogBytes is kept for a copy that catches up.
const pinned = 4

// Start is the offset after which Log can tell, at most Committed.
func (h *History) Start() uint64 { return h.start }

// Log returns the committed entries after an offset, Start ≤ offset ≤ Committed,
// retained or not: as many as cost about the given bytes, at least one if there
// is one.
func (h *History) Log(after uint64, bytes int) []*Entry {
	var decoded []Entry
	for after < h.committed {
		after++
		e := Entry{}
		h.at(after).decode(&e)
		if bytes -= e.Cost(); bytes < 0 && len(decoded) > 0 {
			break
		}
		decoded = append(decoded, e)
	}
	entries := make([]*Entry, len(decoded))
	for i := range decoded {
		entries[i] = &decoded[i]
	}
	return entries
}

// Pin keeps the entries after an offset for Log, though they be old, until the
// next Pin, but not more than four times LogBytes. The highest offset there is
// pins nothing.
func (h *History) Pin(offset uint64) {
	h.pin = offset
	h.trim()
}

// trim moves Start up to where the bound has it.
func (h *History) trim() {
	for h.recent > h.cfg.LogBytes && (h.start < h.pin || h.recent > pinned*h.cfg.LogBytes) {
		h.leave()
	}
}

// leave moves Start by an entry.
func (h *History) leave() {
	h.start++
	i, _ := h.order.find(h.start)
	p := h.order.items[i].place
	h.recent -= footprint(h.chunks.size(p))
	if !h.order.items[i].retained() {
		h.order.remove(i)
		h.release(p)
	}
}
