package edge

import (
	"time"

	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

// settle ends a call of the machine. It takes the lock over.
func (r *reader) settle(now time.Time, out *plain.Effects) {
	r.handOver(now, out)
	if wake := r.door.sinceStart(r.plain.Deadline()); wake != r.wake {
		r.wake = wake
		r.door.timers(r).Set(&r.timer, r.plain.Deadline())
	}
	r.carryOut()
}

// handOver gives the stream its frames or the exchange its answer, and keeps the
// orders.
func (r *reader) handOver(now time.Time, out *plain.Effects) {
	for r.stream != nil && r.push(out) {
		r.keep(out)
		out.Reset()
		r.plain.Writable(now, out)
	}
	r.keep(out)
	if out.Ended != "" {
		r.over(out)
	}
}

// push sends the frames of a call, and reports whether there is more to come at
// once.
func (r *reader) push(out *plain.Effects) (more bool) {
	waiting := 0
	for _, f := range out.Frames {
		waiting = r.stream.Send(f)
	}
	if len(out.Frames) > 0 {
		r.opened(out)
	}
	r.door.metrics.deliveries.Add(float64(out.Events))
	r.door.droppedOf(&out.Dropped)
	if waiting >= hold.Full {
		r.plain.Blocked()
		return false
	}
	return out.More && out.Ended == ""
}

// keep notes what the hub and history are to be asked.
func (r *reader) keep(out *plain.Effects) {
	if len(out.Interests)+len(out.Reads) == 0 {
		return
	}
	r.orders = append(r.orders, orders{out.Interests, out.Reads})
	for _, i := range out.Interests {
		if i.Leave {
			continue
		}
		if r.joining == nil {
			r.joining = &joining{}
		}
		r.joining.asked = append(r.joining.asked, i)
	}
	out.Interests, out.Reads = nil, nil
}

// over ends the stream, or answers.
func (r *reader) over(out *plain.Effects) {
	r.door.ended(out.Ended)
	r.opened(out)
	switch {
	case r.stream != nil:
		if out.Ended != plain.Gone {
			r.stream.End(out.Last)
		}
	case out.Answer.Body != nil:
		r.reply.events = out.Events
		if r.reply.waits {
			r.reply.newest = nanoseconds(out.Newest)
		}
		r.reply.Batch(out.Answer.Body, out.Answer.Cursor)
	case out.Ended != plain.Gone:
		r.reply.Refuse(refusalOf(out))
	}
}

// opened tells who waits how the stream begins: with frames, or not.
func (r *reader) opened(out *plain.Effects) {
	if r.opening == nil {
		return
	}
	if len(out.Frames) > 0 {
		r.opening <- nil
	} else {
		r.opening <- refusalOf(out)
	}
	r.opening = nil
}

// carryOut carries orders out unless somebody else is at it. It takes the lock
// over.
func (r *reader) carryOut() {
	if r.busy || len(r.orders) == 0 {
		r.mu.Unlock()
		return
	}
	r.busy = true
	for len(r.orders) > 0 {
		all := r.orders
		r.orders = nil
		r.mu.Unlock()
		for i := range all {
			r.door.carryOutFor(r, &all[i])
		}
		r.mu.Lock()
	}
	r.busy = false
	r.mu.Unlock()
}
