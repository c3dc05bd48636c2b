package history

import (
	"maps"
	"slices"

	"github.com/comet-push/comet/bayeux"
)

// readNames answers a query of Names. With a pattern among them that costs a
// look at every entry after Since, and one at every channel if anything after
// Since is gone.
func (h *History) readNames(q Query) Page {
	page := Page{Through: h.committed}
	wanted := make(map[string]struct{}, len(q.Names))
	for _, name := range q.Names {
		wanted[name] = struct{}{}
	}
	since := q.Since
	if q.Earliest {
		since = h.cfg.Base
	} else {
		page.Gone = h.gaps(wanted, since)
		for _, name := range page.Gone {
			delete(wanted, name)
		}
		if page.Lost = len(wanted) == 0; page.Lost {
			return page
		}
	}
	limit := max(q.Limit, 1)
	offsets := h.matching(wanted, since, limit+1)
	if len(offsets) > limit {
		offsets = offsets[:limit]
		page.Through = offsets[limit-1]
	}
	page.Entries = h.decode(offsets)
	return page
}

// gaps returns those of some channels and patterns that are not complete after
// an offset, in order.
func (h *History) gaps(names map[string]struct{}, since uint64) []string {
	gone := map[string]struct{}{}
	var patterns bayeux.Tree[string]
	for name := range names {
		if bayeux.IsPattern(name) {
			patterns.Add(name, name)
		} else if !h.completeLiteral(name, since) {
			gone[name] = struct{}{}
		}
	}
	if patterns.Len() > 0 {
		forgotten := h.Gaps(since, 0, func(channel string) {
			patterns.Match(channel, func(name string) { gone[name] = struct{}{} })
		})
		for name := range patterns.All() {
			if forgotten {
				gone[name] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(gone))
}

// matching returns the first retained entries after an offset that match any of
// some channels and patterns, in slot order, as many as most.
func (h *History) matching(names map[string]struct{}, since uint64, most int) (offsets []uint64) {
	var tree bayeux.Tree[struct{}]
	patterns := false
	for name := range names {
		tree.Add(name, struct{}{})
		patterns = patterns || bayeux.IsPattern(name)
		if ch, ok := h.channels[name]; ok {
			of := after(ch.offsets, since)
			offsets = append(offsets, of[:min(len(of), most)]...)
		}
	}
	if !patterns {
		slices.Sort(offsets)
		return offsets[:min(len(offsets), most)]
	}
	offsets = nil
	for e := range h.After(since) {
		wanted := false
		tree.Match(e.Channel(), func(struct{}) { wanted = true })
		if wanted {
			offsets = append(offsets, e.Offset())
		}
		if len(offsets) == most {
			break
		}
	}
	return offsets
}
