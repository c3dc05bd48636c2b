package hold

import "github.com/comet-push/comet/services/edge/internal/frame"

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
}

// rest is the part of a queue behind its first frame.
type rest struct {
	frames []*frame.Frame
	head   int
}

func (q *queue) empty() bool { return q.first == nil }

func (q *queue) push(f *frame.Frame) {
	if q.first == nil {
		q.first = f
		return
	}
	if q.rest == nil {
		q.rest = &rest{}
	}
	q.rest.frames = append(q.rest.frames, f)
}

func (q *queue) clear() { *q = queue{} }

// pop takes the first frame out.
func (q *queue) pop() {
	q.first, q.sent = nil, 0
	if q.rest == nil {
		return
	}
	r := q.rest
	q.first = r.frames[r.head]
	r.frames[r.head] = nil
	if r.head++; r.head == len(r.frames) {
		q.rest = nil
	}
}

// gather appends frames to b while they fit into its capacity, and reports
// whether that was all. What is left of a first frame that does not fit is
// returned as it is.
func (q *queue) gather(b []byte, bytes view) (out []byte, all bool) {
	if q.first == nil {
		return b, true
	}
	left := bytes(q.first)[q.sent:]
	if q.rest == nil && len(b) == 0 {
		return left, true
	}
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

// wrote takes out what was written, n bytes, and returns the size on the wire
// of the frames that are through.
func (q *queue) wrote(n int, bytes view) (through int) {
	for q.first != nil {
		left := len(bytes(q.first)) - int(q.sent)
		if n < left {
			q.sent += int32(n)
			return through
		}
		n -= left
		through += q.first.Len()
		q.pop()
	}
	return through
}
