package history

// channel is a channel with retained entries; there is always one outside of
// Add and dropFirst.
type channel struct {
	name    string
	class   Class
	entries []*Entry // oldest first
	payload int      // of the entries
	drop    uint64   // when what precedes the first entry was dropped
	due     int64    // milliseconds; not after the first entry expires
	at      int      // index in ages, -1 if not there
}

func (c *channel) first() *Entry { return c.entries[0] }

func (c *channel) last() *Entry { return c.entries[len(c.entries)-1] }

func (c *channel) push(e *Entry) {
	c.entries = append(c.entries, e)
	c.payload += e.Payload()
}

func (c *channel) shift() *Entry {
	e := c.entries[0]
	c.entries[0] = nil // append copies the rest to a new array in time
	c.entries = c.entries[1:]
	c.payload -= e.Payload()
	return e
}

func (c *channel) overfull() bool {
	return len(c.entries) > c.class.Messages || c.class.Bytes > 0 && c.payload > c.class.Bytes
}

// expiry is when the first entry is too old, in milliseconds.
func (c *channel) expiry() int64 { return c.first().Time + c.class.Age.Milliseconds() }

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
	s[i].at, s[j].at = i, j
}

// Push implements [heap.Interface].
func (a *ages) Push(x any) {
	ch := x.(*channel)
	ch.at = len(*a)
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
