package hub

import (
	"hash/maphash"
	"slices"
)

// members is the subscribers of a topic, without repetition. Guarded by the
// lock of the topic's place; but what a fan-out has borrowed is never changed.
type members[S Subscriber] struct {
	list  []S
	index *index // of list, once it is long
}

// few is how many members are found fast enough without an index.
const few = 16

func (m *members[S]) find(sub S) int {
	if m.index == nil {
		return slices.Index(m.list, sub)
	}
	i, _ := find(m.index, m.list, sub)
	return i
}

// add appends, which a fan-out under way does not see.
func (m *members[S]) add(sub S) {
	if m.find(sub) >= 0 {
		return
	}
	m.list = append(m.list, sub)
	switch n := len(m.list); {
	case n <= few:
	case m.index == nil || n > m.index.room():
		m.index = newIndex(m.list, 2*n)
	default:
		put(m.index, m.list, n-1)
	}
}

// remove puts the last member in the place of the removed one; in a copy if the
// list is borrowed, because a fan-out goes through it. It reports whether the
// list is another one now.
func (m *members[S]) remove(sub S, borrowed bool) (replaced bool) {
	i := m.find(sub)
	if i < 0 {
		return false
	}
	last := len(m.list) - 1
	if last == 0 {
		*m = members[S]{}
		return true
	}
	if m.index != nil {
		drop(m.index, m.list, i)
		if i != last {
			rename(m.index, m.list, last, i)
		}
	}
	if shrunk := cap(m.list) > 4*few && last < cap(m.list)/4; borrowed || shrunk {
		m.list, replaced = slices.Clone(m.list), true
	}
	m.list[i] = m.list[last]
	var none S
	m.list[last] = none
	m.list = m.list[:last]
	if m.index != nil && last < m.index.room()/8 {
		m.shrink()
	}
	return replaced
}

func (m *members[S]) shrink() {
	if len(m.list) <= few/2 {
		m.index = nil
	} else {
		m.index = newIndex(m.list, 2*len(m.list))
	}
}

// index finds a member's place in a list by its hash: an open hash table with
// linear probing. A map would hold every member a second time.
type index struct {
	seed   maphash.Seed
	places []uint32 // place in the list + 1, or 0: free; a power of two of them
}

// newIndex returns an index of a list with room for at least n members.
func newIndex[S Subscriber](list []S, n int) *index {
	size := 4 * few
	for size/4*3 < n {
		size *= 2
	}
	x := &index{seed: maphash.MakeSeed(), places: make([]uint32, size)}
	for i := range list {
		put(x, list, i)
	}
	return x
}

// room is how many members it may hold.
func (x *index) room() int { return len(x.places) / 4 * 3 }

func (x *index) next(p int) int { return (p + 1) & (len(x.places) - 1) }

// home is where the search for a member begins.
func home[S Subscriber](x *index, sub S) int {
	return int(maphash.Comparable(x.seed, sub)) & (len(x.places) - 1)
}

// find returns a member's place in the list, and in the index; -1 if it is not
// there, and where it would be.
func find[S Subscriber](x *index, list []S, sub S) (i, p int) {
	for p = home(x, sub); x.places[p] != 0; p = x.next(p) {
		if i = int(x.places[p]) - 1; list[i] == sub {
			return i, p
		}
	}
	return -1, p
}

func put[S Subscriber](x *index, list []S, i int) {
	_, p := find(x, list, list[i])
	x.places[p] = uint32(i + 1)
}

func rename[S Subscriber](x *index, list []S, from, to int) {
	_, p := find(x, list, list[from])
	x.places[p] = uint32(to + 1)
}

// drop removes a member, and closes the gap that would end the search for
// others too early.
func drop[S Subscriber](x *index, list []S, i int) {
	_, gap := find(x, list, list[i])
	for p := x.next(gap); x.places[p] != 0; p = x.next(p) {
		at := home(x, list[x.places[p]-1])
		if mask := len(x.places) - 1; (p-at)&mask >= (p-gap)&mask {
			x.places[gap] = x.places[p]
			gap = p
		}
	}
	x.places[gap] = 0
}
