package plain

import (
	"slices"
	"time"

	"github.com/comet-push/comet/services/edge/internal/event"
)

// queue is what waits for a stream that is full. It is never empty.
type queue struct {
	items []item
	bytes int
}

type item struct {
	event  *event.Event
	since  time.Duration
	policy Policy
}

// enqueue lets an event wait.
func (r *Reader) enqueue(at time.Duration, e *event.Event, out *Effects) {
	policy := r.cfg.Slow(e.Channel)
	if policy == Conflate {
		out.Dropped.Conflated += r.discard(func(i item) bool { return i.event.Channel == e.Channel })
	}
	if r.queue == nil {
		r.queue = &queue{}
	}
	q := r.queue
	q.items = append(q.items, item{event: e, since: at, policy: policy})
	q.bytes += e.Size()
	for len(q.items) > r.cfg.QueueMessages || q.bytes > r.cfg.QueueBytes && len(q.items) > 1 {
		if !q.dropOldest() {
			r.end(at, Slow, 0, out)
			return
		}
		out.Dropped.Oldest++
	}
}

func (q *queue) dropOldest() bool {
	i := slices.IndexFunc(q.items, func(i item) bool { return i.policy == DropOldest })
	if i < 0 {
		return false
	}
	q.bytes -= q.items[i].event.Size()
	q.items = slices.Delete(q.items, i, i+1)
	return true
}

// discard removes items from the queue and returns how many.
func (r *Reader) discard(drop func(item) bool) int {
	q := r.queue
	if q == nil {
		return 0
	}
	before := len(q.items)
	q.items = slices.DeleteFunc(q.items, drop)
	q.bytes = 0
	for _, i := range q.items {
		q.bytes += i.event.Size()
	}
	if len(q.items) == 0 {
		r.queue = nil
	}
	return before - len(q.items)
}

// release sends what waits, as much as goes out at once.
func (r *Reader) release(at time.Duration, out *Effects) {
	q := r.queue
	if q == nil {
		return
	}
	r.tell(at, out)
	sent, n := r.bytes, 0
	for n < len(q.items) && r.bytes-sent < r.cfg.Burst {
		e := q.items[n].event
		q.bytes -= e.Size()
		r.emitEvent(at, e, out)
		n++
	}
	clear(q.items[:n])
	if q.items = q.items[n:]; len(q.items) == 0 {
		r.queue = nil
	}
}

// oldest returns when the first event came that may not wait for ever.
func (q *queue) oldest() (i int, since time.Duration) {
	i = slices.IndexFunc(q.items, func(i item) bool { return i.policy != Conflate })
	if i < 0 {
		return i, 0
	}
	return i, q.items[i].since
}

// age drops what has waited too long.
func (r *Reader) age(at time.Duration, out *Effects) {
	for r.queue != nil {
		i, since := r.queue.oldest()
		if i < 0 || at < since+r.cfg.QueueAge {
			return
		}
		if r.queue.items[i].policy != DropOldest {
			r.end(at, Slow, 0, out)
			return
		}
		r.queue.dropOldest() // which is that one
		out.Dropped.Age++
		if len(r.queue.items) == 0 {
			r.queue = nil
		}
	}
}

// Blocked says that the stream is full.
func (r *Reader) Blocked() { r.blocked = true }

// Writable says that the stream is not full.
func (r *Reader) Writable(now time.Time, out *Effects) {
	r.blocked = false
	r.proceed(r.since(now), out)
}
