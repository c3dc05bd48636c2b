package plain

import (
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/services/edge/internal/frame"
)

// End ends the reader: a stream with an end, a poll with what it has. retry is
// what the client is asked to wait, 0: about Config.Retry.
func (r *Reader) End(now time.Time, reason Reason, retry time.Duration, out *Effects) {
	if r.ended == "" {
		r.end(r.since(now), reason, retry, out)
	}
}

func (r *Reader) end(at time.Duration, reason Reason, retry time.Duration, out *Effects) {
	if retry <= 0 {
		retry = r.cfg.Retry/2 + time.Duration(r.cfg.Jitter(int64(r.cfg.Retry)))
	}
	if r.batch != nil {
		r.batch.end, r.batch.retry = reason, retry
		r.answer(out)
		return
	}
	if !r.opened {
		r.greet(at, out)
	}
	r.tellNow(at, out)
	last, closing := Final(r.encoding, reason, r.cursor(), retry)
	r.emit(at, last, out)
	out.Last = closing
	r.close(reason, out)
}

// reload has a frame document that has grown large load itself anew.
func (r *Reader) reload(at time.Duration, out *Effects) {
	r.tellNow(at, out)
	r.emit(at, frame.Reload(r.cursor()), out)
	r.close(Reloaded, out)
}

// refuse ends a request that cannot be served.
func (r *Reader) refuse(channel string, err *bayeux.Error, out *Effects) {
	out.Refused = &Refusal{Channel: channel, Err: err}
	r.close(Refused, out)
}

// Lost says that the peer vanished, or that the stream has ended.
func (r *Reader) Lost(out *Effects) {
	if r.ended == "" {
		r.close(Gone, out)
	}
}

func (r *Reader) close(reason Reason, out *Effects) {
	for _, channel := range r.channels() {
		out.Interests = append(out.Interests, Interest{Channel: channel, Leave: true})
	}
	if r.queue != nil {
		out.Dropped.Ended += len(r.queue.items)
	}
	out.More = false
	out.Ended, r.ended = reason, reason
	r.start, r.batch, r.queue, r.lost = nil, nil, nil, nil
}
