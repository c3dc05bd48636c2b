package history

// channel is a channel with retained entries; there is always one outside of
// Add and dropFirst.
type channel struct {
	name    string
	offsets []uint64 // of the retained entries, oldest first
	bytes   int      // of the entries, encoded
	gone    uint64   // up to here entries of the channel may be gone
	drop    uint64   // when the last of these was dropped
	due     int64    // milliseconds; not after the first entry expires
	class   int32    // index in classes
	at      int32    // index in ages, -1 if not there
}

func (c *channel) first() uint64 { return c.offsets[0] }

func (c *channel) last() uint64 { return c.offsets[len(c.offsets)-1] }

func (c *channel) queued() bool { return c.at >= 0 }

// ages is a heap of channels by due. A channel's due is brought up to date only
// when it has come to the top, so that adding and dropping entries cost nothing
// here.
type ages []*channel

// Len implements [heap.Interface].
func (a *ages) Len() int { return len(*a) }

// Less implements [heap.Interface].
func (a *ages) Less(i, j int) bool { return (*a)[i].due < (*a)[j].due }

// Swap implements [heap.Interface].
func (a *ages) Swap(i, j int) {
	s := *a
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = int32(i), int32(j)
}

// Push implements [heap.Interface].
func (a *ages) Push(x any) {
	ch := x.(*channel)
	ch.at = int32(len(*a))
	*a = append(*a, ch)
}

// Pop implements [heap.Interface].
func (a *ages) Pop() any {
	last := len(*a) - 1
	ch := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	ch.at = -1
	return ch
}
