package edge

import (
	"net/http"
	"time"

	"github.com/comet-push/comet/services/edge/internal/session"
)

// record has what an answer brings recorded before it is written: whoever goes on
// with the session then knows what its client has that acknowledges it. It
// reports whether the answer waits for that; if not, there is nobody to tell, or
// that is not wanted. The lock is held.
func (c *client) record(a session.Answer) (waits bool) {
	s := c.service
	if s.cfg.AckExact != ExactAfterKill {
		return false
	}
	c.behind = true // the vector will say it in some seconds
	waits = s.reports.Confirm(c.session.PublicID(), func(kept bool) { c.recorded(a, kept) })
	if !waits {
		s.metrics.answers.WithLabelValues(unrecorded).Inc()
	}
	return waits
}

// The outcomes of records that answers wait for.
const (
	recorded   = "recorded"
	unrecorded = "unrecorded"
)

// recorded writes an answer that has waited for its record, whatever became of
// that: without it what the answer brings may come again, but is not lost.
func (c *client) recorded(a session.Answer, kept bool) {
	outcome := unrecorded
	if kept {
		outcome = recorded
	}
	c.service.metrics.answers.WithLabelValues(outcome).Inc()
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	if c.session.Ended() == session.Moved { // it was taken away with the session
		if a.Socket != 0 {
			c.mu.Unlock()
			return
		}
		a = session.Answer{Exchange: a.Exchange, Status: http.StatusServiceUnavailable}
	}
	c.answer(now, &a)
	c.settle(now, &out)
}

// leaveOvertaken ends the session here because it lives elsewhere, though nobody
// could say so. It takes the lock over.
func (c *client) leaveOvertaken() {
	var out session.Effects
	c.session.Move(&out)
	c.settle(time.Now(), &out)
}
