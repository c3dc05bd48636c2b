package history

import (
	"iter"
	"slices"

	"github.com/comet-push/comet/bayeux"
)

// Read answers a query. Since must be a position between Base and Committed
// (package slot sees to it) unless Earliest is set.
func (h *History) Read(q Query) Page {
	if len(q.Names) > 0 {
		return h.readNames(q)
	}
	page := Page{Through: h.committed}
	var offsets []uint64
	if ch, ok := h.channels[q.Channel]; ok {
		offsets = ch.offsets
	}
	if !q.Earliest {
		offsets = after(offsets, q.Since)
	}
	// The newest entries can be had even if older ones are gone.
	enough := q.Reverse && len(offsets) >= q.Limit
	if !q.Earliest && !enough && !h.completeLiteral(q.Channel, q.Since) {
		page.Lost = true
		return page
	}
	limit := max(q.Limit, 1)
	switch {
	case q.Reverse:
		page.Entries = h.decode(offsets[max(0, len(offsets)-limit):])
		slices.Reverse(page.Entries)
	case len(offsets) > limit:
		page.Entries = h.decode(offsets[:limit])
		page.Through = offsets[limit-1]
	default:
		page.Entries = h.decode(offsets)
	}
	return page
}

// after returns the offsets after an offset.
func after(offsets []uint64, offset uint64) []uint64 {
	i, _ := slices.BinarySearch(offsets, offset+1)
	return offsets[i:]
}

// decode returns kept entries.
func (h *History) decode(offsets []uint64) []*Entry {
	if len(offsets) == 0 {
		return nil
	}
	decoded := make([]Entry, len(offsets))
	entries := make([]*Entry, len(offsets))
	for i, offset := range offsets {
		h.at(offset).decode(&decoded[i])
		entries[i] = &decoded[i]
	}
	return entries
}

// Complete reports whether everything of a channel or pattern that came after
// an offset is retained. Of a pattern that costs a look at every channel.
func (h *History) Complete(name string, since uint64) bool {
	if since >= h.dropped {
		return true
	}
	if !bayeux.IsPattern(name) {
		return h.completeLiteral(name, since)
	}
	complete := true
	forgotten := h.Gaps(since, 0, func(channel string) {
		complete = complete && !bayeux.Match(name, channel)
	})
	return complete && !forgotten
}

func (h *History) completeLiteral(name string, since uint64) bool {
	through, _ := h.missing(name)
	return since >= through
}

// missing returns up to where the entries of a channel may be gone, and when
// they were dropped, as the channel's own entries, its tombstone or the floor
// have it.
func (h *History) missing(name string) (through, drop uint64) {
	if ch, ok := h.channels[name]; ok {
		return ch.gone, ch.drop
	}
	if t, ok := h.gone.get(name); ok {
		return t.last, t.drop
	}
	if !h.cfg.Class(name).Retains() {
		return 0, 0
	}
	return h.floor, h.floorDrop
}

// Intact reports whether nothing at all after an offset was dropped later than
// the clock Drops showed seen.
func (h *History) Intact(since, seen uint64) bool { return since >= h.dropped || seen >= h.drops }

// Drops is a clock that ticks with every entry that is dropped.
func (h *History) Drops() uint64 { return h.drops }

// Lost reports whether entries of a channel after an offset may have been
// dropped, later than the clock Drops showed seen.
func (h *History) Lost(channel string, since, seen uint64) bool {
	through, drop := h.missing(channel)
	return through > since && drop > seen
}

// Gaps calls visit with every remembered channel that Lost is true of, and
// reports whether it is true of channels that are not remembered. It looks at
// every channel.
func (h *History) Gaps(since, seen uint64, visit func(channel string)) (forgotten bool) {
	if h.Intact(since, seen) {
		return false
	}
	for name, ch := range h.channels {
		if ch.drop > seen && ch.gone > since {
			visit(name)
		}
	}
	for _, t := range h.gone.after(since) {
		if t.drop > seen {
			visit(t.name)
		}
	}
	return h.floor > since && h.floorDrop > seen
}

// Info returns what is known of a channel.
func (h *History) Info(name string) Info {
	if ch, ok := h.channels[name]; ok {
		return Info{name, ch.last(), len(ch.offsets)}
	}
	return Info{Channel: name, Last: h.gone.byName[name]}
}

// List returns channels by name: the first limit after a name that match a
// pattern, of those with retained entries and those of also.
func (h *History) List(pattern, after string, limit int, also iter.Seq[string]) []Info {
	var names []string
	add := func(name string) {
		full := len(names) >= limit
		if name <= after || full && name >= names[limit-1] || !bayeux.Match(pattern, name) {
			return
		}
		i, found := slices.BinarySearch(names, name)
		if found {
			return
		}
		if full {
			names = names[:limit-1]
		}
		names = slices.Insert(names, i, name)
	}
	if limit <= 0 {
		return nil
	}
	for name := range h.channels {
		add(name)
	}
	for name := range also {
		add(name)
	}
	infos := make([]Info, len(names))
	for i, name := range names {
		infos[i] = h.Info(name)
	}
	return infos
}
