package hold

import (
	"sync"

	"github.com/comet-push/comet/services/edge/internal/frame"
)

// view is which bytes of a frame go out: Wire or Payload.
type view func(*frame.Frame) []byte

func wire(f *frame.Frame) []byte    { return f.Wire() }
func payload(f *frame.Frame) []byte { return f.Payload() }

// queue is the frames that wait on one connection, in order. One that is empty
// or holds one frame has no memory of its own.
type queue struct {
	first *frame.Frame
	rest  *rest // behind first, or nil
	sent  int32 // bytes of first that were written
	bytes int32 // of all, on the wire, until their frames are through
}

// rest is the part of a queue behind its first frame. It is never empty while
// it is in a queue.
type rest struct {
	frames []*frame.Frame
	head   int // of what waits
}

// spares keeps rests between their uses.
type spares struct{ pool sync.Pool }

// get returns an empty rest; a nil p has none to spare.
func (p *spares) get() *rest {
	if p == nil {
		return &rest{}
	}
	if r, ok := p.pool.Get().(*rest); ok {
		return r
	}
	return &rest{}
}

// put takes an empty rest, unless it is so large that it is better forgotten.
func (p *spares) put(r *rest) {
	const most = 1 << 10
	if p != nil && cap(r.frames) <= most {
		r.frames, r.head = r.frames[:0], 0
		p.pool.Put(r)
	}
}

func (q *queue) empty() bool { return q.first == nil }

func (q *queue) push(f *frame.Frame, spares *spares) {
	q.bytes += int32(f.Len())
	if q.first == nil {
		q.first = f
		return
	}
	if q.rest == nil {
		q.rest = spares.get()
	}
	q.rest.push(f)
}

func (r *rest) push(f *frame.Frame) {
	if len(r.frames) == cap(r.frames) && r.head > len(r.frames)/2 {
		n := copy(r.frames, r.frames[r.head:])
		clear(r.frames[n:])
		r.frames, r.head = r.frames[:n], 0
	}
	r.frames = append(r.frames, f)
}

func (q *queue) clear() { *q = queue{} }

// pop takes the first frame out.
func (q *queue) pop(spares *spares) {
	q.bytes -= int32(q.first.Len())
	q.first, q.sent = nil, 0
	if q.rest == nil {
		return
	}
	r := q.rest
	q.first = r.frames[r.head]
	r.frames[r.head] = nil
	if r.head++; r.head == len(r.frames) {
		q.rest = nil
		spares.put(r)
	}
}

// gather appends frames to b while they fit into its capacity, and reports
// whether that was all. If the first does not fit into an empty b, what is left
// of it is returned without a copy.
func (q *queue) gather(b []byte, bytes view) (out []byte, all bool) {
	if q.first == nil {
		return b, true
	}
	left := bytes(q.first)[q.sent:]
	if len(left) > cap(b)-len(b) {
		if len(b) > 0 {
			return b, false
		}
		return left, false
	}
	b = append(b, left...)
	if q.rest == nil {
		return b, true
	}
	for _, f := range q.rest.frames[q.rest.head:] {
		next := bytes(f)
		if len(next) > cap(b)-len(b) {
			return b, false
		}
		b = append(b, next...)
	}
	return b, true
}

// wrote takes out what was written: n bytes, or what waits if that is less.
func (q *queue) wrote(n int, bytes view, spares *spares) {
	for q.first != nil {
		left := len(bytes(q.first)) - int(q.sent)
		if n < left {
			q.sent += int32(n)
			return
		}
		n -= left
		q.pop(spares)
	}
}
