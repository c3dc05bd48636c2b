package history

import (
	"cmp"
	"slices"
)

// tombstone remembers a channel of which nothing is retained.
type tombstone struct {
	name string
	last uint64 // offset of its last entry
	time int64  // of its last entry
	drop uint64 // when that was dropped
}

// tombstones are ordered by the offset of the last entry, which is also the
// order of its time.
type tombstones struct {
	byName map[string]uint64 // last
	byLast []tombstone
}

func (g *tombstones) put(t tombstone) {
	i, _ := g.find(t.last)
	g.byLast = slices.Insert(g.byLast, i, t)
	g.byName[t.name] = t.last
}

// take removes and returns a channel's tombstone.
func (g *tombstones) take(name string) (tombstone, bool) {
	last, ok := g.byName[name]
	if !ok {
		return tombstone{}, false
	}
	i, _ := g.find(last)
	t := g.byLast[i]
	g.byLast = slices.Delete(g.byLast, i, i+1)
	delete(g.byName, name)
	return t, true
}

// pop removes and returns the oldest; there must be one.
func (g *tombstones) pop() tombstone {
	t := g.byLast[0]
	g.byLast[0] = tombstone{}
	g.byLast = g.byLast[1:]
	delete(g.byName, t.name)
	return t
}

// after returns those whose last entry is after an offset.
func (g *tombstones) after(offset uint64) []tombstone {
	i, _ := g.find(offset + 1)
	return g.byLast[i:]
}

func (g *tombstones) find(last uint64) (int, bool) {
	return slices.BinarySearchFunc(g.byLast, last, func(t tombstone, last uint64) int {
		return cmp.Compare(t.last, last)
	})
}

func (g *tombstones) get(name string) (tombstone, bool) {
	last, ok := g.byName[name]
	if !ok {
		return tombstone{}, false
	}
	i, _ := g.find(last)
	return g.byLast[i], true
}
