package history

import (
	"cmp"
	"iter"
	"slices"
)

// order is the entries that are kept by offset: those that are retained, and
// those that copies may catch up from. One that is removed leaves an empty item
// until half of the items are empty, so that one old entry pins nothing.
type order struct {
	items    []item
	head     int // the items before this one are empty
	kept     int // items that are not empty
	retained int // items that are retained
	oldest   int // no item before this one is retained
}

// item is 16 bytes without pointers: there is one for each entry.
type item struct {
	offset uint64 // with flags above all offsets
	place  place
}

const (
	flagRetained = 1 << 63
	flagEmpty    = 1 << 62
	flags        = flagRetained | flagEmpty
)

func (it *item) at() uint64     { return it.offset &^ flags }
func (it *item) retained() bool { return it.offset&flagRetained != 0 }
func (it *item) empty() bool    { return it.offset&flagEmpty != 0 }

func (o *order) push(offset uint64, p place, retained bool) {
	if retained {
		offset |= flagRetained
		o.retained++
	}
	if n := len(o.items); n == cap(o.items) && o.head > n/2 {
		o.items = o.items[:copy(o.items, o.items[o.head:])]
		o.oldest, o.head = o.oldest-o.head, 0
	}
	o.items = append(o.items, item{offset, p})
	o.kept++
}

// find returns the index of an offset, or of the first item after it.
func (o *order) find(offset uint64) (int, bool) {
	// Near the end there are no gaps.
	if n := len(o.items); n > 0 {
		last := o.items[n-1].at()
		if offset > last {
			return n, false
		}
		if back := last - offset; back < uint64(n-o.head) {
			if i := n - 1 - int(back); o.items[i].at() == offset {
				return i, true
			}
		}
	}
	i, found := slices.BinarySearchFunc(o.items[o.head:], offset, func(it item, offset uint64) int {
		return cmp.Compare(it.at(), offset)
	})
	return o.head + i, found
}

// first is the index of the oldest retained entry; there must be one.
func (o *order) first() int {
	for !o.items[o.oldest].retained() {
		o.oldest++
	}
	return o.oldest
}

// unretain says that an entry is not retained any more.
func (o *order) unretain(i int) {
	o.items[i].offset &^= flagRetained
	o.retained--
}

// remove empties an item that is not retained.
func (o *order) remove(i int) {
	o.items[i].offset |= flagEmpty
	o.kept--
	for o.head < len(o.items) && o.items[o.head].empty() {
		o.head++
	}
	o.oldest = max(o.oldest, o.head)
	const slack = 64
	switch {
	case len(o.items)-o.head > 2*o.kept+slack, cap(o.items) > 8*o.kept+slack:
		o.compact()
	case o.kept == 0:
		o.items, o.head, o.oldest = o.items[:0], 0, 0
	}
}

func (o *order) compact() {
	kept := make([]item, 0, o.kept+o.kept/2)
	for _, it := range o.items[o.head:] {
		if !it.empty() {
			kept = append(kept, it)
		}
	}
	o.items, o.head, o.oldest = kept, 0, 0
}

// after iterates over the retained entries after an offset.
func (o *order) after(offset uint64) iter.Seq[place] {
	i, _ := o.find(offset + 1)
	rest := o.items[i:]
	return func(yield func(place) bool) {
		for i := range rest {
			if rest[i].retained() && !yield(rest[i].place) {
				return
			}
		}
	}
}
