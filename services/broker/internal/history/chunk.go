package history

// place is where an encoded entry is, so that it need not be looked at to be
// dropped: its chunk (20 bits), its place in that and its size (22 bits each).
type place uint64

const (
	// maxAt is the highest place in a chunk.
	maxAt = 1<<22 - 1
	// unsized stands for this size and all above it.
	unsized = 1<<22 - 1
)

func newPlace(chunk, at, size int) place {
	return place(uint64(chunk)<<44 | uint64(at)<<22 | uint64(min(size, unsized)))
}

func (p place) chunk() int { return int(p >> 44) }
func (p place) at() int    { return int(p >> 22 & maxAt) }
func (p place) size() int  { return int(p & unsized) }

// chunks keeps encoded entries in large pieces of memory without pointers, so
// that collecting garbage costs nothing for what is retained, and entries of
// about the same life beside each other. Bytes never change once they are
// there; a chunk that is not needed any more is left to its readers.
type chunks struct {
	sizes
	all     []chunk
	free    []int // those of all that are unused
	classes []chunkClass
}

// sizes bound those of chunks, in bytes. Between least and most a chunk is an
// eighth of what its class has, so that little is wasted on a short history. An
// entry that is larger has a chunk of its own.
type sizes struct{ least, most int }

func defaultSizes() sizes { return sizes{least: 4 << 10, most: 256 << 10} }

type chunkClass struct {
	open int // the chunk that is appended to, or -1
	live int // bytes of its chunks
	idle int // bytes that were given back since a chunk was looked for to copy out
}

type chunk struct {
	class int
	data  []byte
	live  int // bytes of entries that are needed
}

// class makes room for one more class, and returns its number.
func (c *chunks) class() int {
	c.classes = append(c.classes, chunkClass{open: -1})
	return len(c.classes) - 1
}

// at returns the entry at a place.
func (c *chunks) at(p place) Encoded { return Encoded{c.all[p.chunk()].data[p.at():]} }

// size is how many bytes the entry at a place takes.
func (c *chunks) size(p place) int {
	if size := p.size(); size < unsized {
		return size
	}
	return c.at(p).size()
}

// put appends an encoded entry to the chunk of a class.
func (c *chunks) put(class int, b []byte) place {
	of := &c.classes[class]
	if old := of.open; old < 0 || !c.all[old].fits(len(b)) {
		of.open = c.take(chunk{class: class, data: make([]byte, 0, max(c.next(of), len(b)))})
		if old >= 0 && c.all[old].live == 0 {
			c.drop(old)
		}
	}
	to := &c.all[of.open]
	p := newPlace(of.open, len(to.data), len(b))
	to.data = append(to.data, b...)
	c.need(p.chunk(), len(b))
	return p
}

func (c *chunk) fits(bytes int) bool {
	return cap(c.data)-len(c.data) >= bytes && len(c.data) <= maxAt
}

// filling reports whether a chunk is appended to, and not too large for that.
func (c *chunks) filling(i int) bool {
	of := &c.classes[c.all[i].class]
	return of.open == i && cap(c.all[i].data) <= 2*c.next(of)
}

// next is how large the next chunk of a class is.
func (c *chunks) next(of *chunkClass) int { return max(min(of.live/8, c.most), c.least) }

func (c *chunks) take(fresh chunk) (i int) {
	n := len(c.free)
	if n == 0 {
		c.all = append(c.all, fresh)
		return len(c.all) - 1
	}
	i, c.free = c.free[n-1], c.free[:n-1]
	c.all[i] = fresh
	return i
}

// need counts bytes of a chunk that are needed, from now on or no longer.
func (c *chunks) need(i, bytes int) {
	c.all[i].live += bytes
	c.classes[c.all[i].class].live += bytes
}

// release says that the entry at a place is not needed any more, and returns a
// chunk that should be copied out, or -1: after every half a chunk that is given
// back the sparsest of the class, if less than a quarter of it is live. (It is
// not done at once because most chunks of most classes empty in order.)
func (c *chunks) release(p place) (sparse int) {
	size := c.size(p)
	class := c.all[p.chunk()].class
	of := &c.classes[class]
	c.need(p.chunk(), -size)
	if c.all[p.chunk()].live == 0 && !c.filling(p.chunk()) {
		c.drop(p.chunk())
	}
	if of.idle += size; of.idle < c.next(of)/2 {
		return -1
	}
	of.idle, sparse = 0, -1
	least := 0.25
	for i := range c.all {
		in := &c.all[i]
		if in.data == nil || in.class != class || c.filling(i) {
			continue
		}
		if live := float64(in.live) / float64(cap(in.data)); live < least {
			least, sparse = live, i
		}
	}
	return sparse
}

func (c *chunks) drop(i int) {
	if of := &c.classes[c.all[i].class]; of.open == i {
		of.open = -1
	}
	c.all[i] = chunk{}
	c.free = append(c.free, i)
}

// copyOut moves the entries of a chunk that are needed to another one of its
// class, and drops it. needed says where it is written down that an entry is at
// a place, or nil.
func (c *chunks) copyOut(i int, needed func(offset uint64, at place) *place) {
	old := c.all[i]
	c.classes[old.class].live -= old.live
	c.drop(i)
	for at := 0; at < len(old.data); {
		e := Encoded{old.data[at:]}
		size := e.size()
		if p := needed(e.Offset(), newPlace(i, at, size)); p != nil {
			*p = c.put(old.class, old.data[at:at+size])
		}
		at += size
	}
}
