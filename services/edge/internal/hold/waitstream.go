package hold

import (
	"context"
	"net/http"
	"time"
)

// Stream implements [Streamer].
func (h Waiting) Stream(w http.ResponseWriter, r *http.Request, s *Stream) {
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		s.over(false)
		return
	}
	changed := newBell()
	s.hold(changed)
	out := response{w: w, controller: http.NewResponseController(w), timeout: h.WriteTimeout}
	last, err := h.pump(r.Context(), s, out, changed, nil)
	h.count(err)
	if last != afterEnd {
		out.breakOff()
	}
	s.over(last == afterEnd)
}

// outlet is what the frames of a stream are written to.
type outlet interface {
	view() view
	write(b []byte) error
	flush() error
}

// pump writes the frames of a stream until it ends, a write fails, or the peer
// vanishes: gone, which may be nil, or the context says so. It returns afterEnd
// if all was written.
func (h Waiting) pump(ctx context.Context, s *Stream, out outlet, changed bell, gone <-chan struct{}) (after, error) {
	done := ctx.Done()
	turn := time.NewTimer(time.Hour)
	turn.Stop()
	defer turn.Stop()
	for {
		if next, err := pour(s, out); err != nil {
			return afterCut, err
		} else if next != afterNothing {
			return next, nil
		}
		select {
		case <-changed:
		case <-gone:
			next, err := pour(s, out) // an answer to what ended it
			if err != nil || next != afterEnd {
				return afterCut, errGone
			}
			return next, nil
		case <-turn.C:
			s.owner.Drain(s.number)
		case <-done:
			if !draining(ctx) {
				return afterCut, errGone
			}
			done = nil
			turn.Reset(h.turn())
		}
	}
}

// pour writes all frames that wait, and says what follows.
func pour(s *Stream, out outlet) (next after, err error) {
	for next = afterMore; next == afterMore; {
		var b []byte
		if b, next = s.gather(nil, out.view()); next == afterCut {
			return next, nil
		}
		if err := out.write(b); err != nil {
			return afterCut, err
		}
		if next != afterMore {
			if err := out.flush(); err != nil {
				return afterCut, err
			}
		}
		if s.wrote(len(b), out.view()) {
			s.owner.Writable(s.number)
		}
	}
	return next, nil
}

// response is a stream that is the body of a response, which chunks by itself.
type response struct {
	w          http.ResponseWriter
	controller *http.ResponseController
	timeout    time.Duration
}

func (o response) view() view { return payload }

func (o response) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	o.limit()
	_, err := o.w.Write(b)
	return err
}

// flush also lifts the limit: one that passes ends an HTTP/2 stream even if
// nothing is being written.
func (o response) flush() error {
	o.limit()
	if err := o.controller.Flush(); err != nil {
		return err
	}
	_ = o.controller.SetWriteDeadline(time.Time{})
	return nil
}

// limit bounds the next write. Not every writer has deadlines; one without
// cannot be bounded here.
func (o response) limit() { _ = o.controller.SetWriteDeadline(time.Now().Add(o.timeout)) }

// breakOff keeps the server from ending the body as if it were whole.
func (o response) breakOff() { _ = o.controller.SetWriteDeadline(time.Unix(1, 0)) }
