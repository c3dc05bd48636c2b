package history

import (
	"cmp"
	"iter"
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
	for e := range h.matching(wanted, since) {
		if len(page.Entries) == limit {
			page.Through = page.Entries[limit-1].Offset
			break
		}
		page.Entries = append(page.Entries, e)
	}
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

// matching iterates over the retained entries after an offset that match any of
// some channels and patterns, in slot order.
func (h *History) matching(names map[string]struct{}, since uint64) iter.Seq[*Entry] {
	var tree bayeux.Tree[struct{}]
	var literals []*Entry
	patterns := false
	for name := range names {
		tree.Add(name, struct{}{})
		patterns = patterns || bayeux.IsPattern(name)
		if ch, ok := h.channels[name]; ok {
			literals = append(literals, after(ch.entries, since)...)
		}
	}
	if !patterns {
		slices.SortFunc(literals, func(a, b *Entry) int { return cmp.Compare(a.Offset, b.Offset) })
		return slices.Values(literals)
	}
	return func(yield func(*Entry) bool) {
		for e := range h.After(since) {
			wanted := false
			tree.Match(e.Channel, func(struct{}) { wanted = true })
			if wanted && !yield(e) {
				return
			}
		}
	}
}
