package plain

import (
	"time"

	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
)

// Deadline is when Tick is due; zero: never.
func (r *Reader) Deadline() time.Time {
	switch {
	case r.ended != "" || !r.opened || r.batch != nil && !r.batch.holding:
		return time.Time{}
	case r.batch != nil:
		return r.born.Add(r.batch.until)
	}
	due := r.due
	if r.lost != nil && !r.blocked {
		due = min(due, r.lost.due)
	}
	if r.queue != nil {
		if i, since := r.queue.oldest(); i >= 0 {
			due = min(due, since+r.cfg.QueueAge)
		}
	}
	return r.born.Add(due)
}

// Tick says that Deadline may have come.
func (r *Reader) Tick(now time.Time, out *Effects) {
	at := r.since(now)
	switch {
	case r.ended != "" || !r.opened:
		return
	case r.batch != nil:
		if r.batch.holding && at >= r.batch.until {
			r.answer(out)
		}
		return
	}
	if r.age(at, out); r.ended != "" {
		return
	}
	if at >= r.due {
		r.beat(at, out)
	}
	r.proceed(at, out)
}

// beat sends what is due on a stream, and sets when to look again. Messages
// that go out do not set it, so they cost no timer.
func (r *Reader) beat(at time.Duration, out *Effects) {
	switch {
	case r.blocked || r.queue != nil: // it is not silent
		r.due = at + r.cfg.Heartbeat
		return
	case r.many != nil && r.flowed:
		r.mark(at, AppendCursor, out)
		r.due = at + min(r.cfg.Heartbeat, r.cfg.CursorEvery)
	case at >= r.framed+r.cfg.Heartbeat:
		r.mark(at, AppendHeartbeat, out)
		r.due = at + r.cfg.Heartbeat
	default:
		r.due = r.framed + r.cfg.Heartbeat
	}
	if r.encoding == event.Text {
		out.Frames = append(out.Frames, frame.Ping())
	}
}

// mark sends a control object that has nothing but a cursor, unless there is a
// loss to tell of, which has one too.
func (r *Reader) mark(at time.Duration, object func(b []byte, cursor string) []byte, out *Effects) {
	r.flowed = false
	if r.tell(at, out) {
		return
	}
	cursor := r.cursor()
	r.emit(at, Control(r.encoding, cursor, object(nil, cursor)), out)
}
