package history

import (
	"cmp"
	"iter"
	"slices"
)

// order is the retained entries by offset. A removed entry leaves an empty
// item until half of the items are empty, so that one old entry pins nothing.
type order struct {
	items []item
	live  int
}

type item struct {
	offset uint64
	entry  *Entry // nil: removed
}

func (o *order) push(e *Entry) {
	o.items = append(o.items, item{e.Offset, e})
	o.live++
}

// first is the oldest entry; there must be one.
func (o *order) first() *Entry { return o.items[0].entry }

func (o *order) remove(offset uint64) {
	i, _ := slices.BinarySearchFunc(o.items, offset, item.compare)
	o.items[i].entry = nil
	o.live--
	for len(o.items) > 0 && o.items[0].entry == nil {
		o.items = o.items[1:]
	}
	const slack = 64
	if len(o.items) > 2*o.live+slack {
		o.compact()
	}
	if o.live == 0 {
		o.items = nil
	}
}

func (o *order) compact() {
	live := make([]item, 0, o.live+o.live/2)
	for _, it := range o.items {
		if it.entry != nil {
			live = append(live, it)
		}
	}
	o.items = live
}

func (o *order) after(offset uint64) iter.Seq[*Entry] {
	i, _ := slices.BinarySearchFunc(o.items, offset+1, item.compare)
	rest := o.items[i:]
	return func(yield func(*Entry) bool) {
		for _, it := range rest {
			if it.entry != nil && !yield(it.entry) {
				return
			}
		}
	}
}

func (it item) compare(offset uint64) int { return cmp.Compare(it.offset, offset) }
