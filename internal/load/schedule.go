package load

import (
	"math"
	"time"
)

// schedule says when messages are due, whatever becomes of them.
type schedule struct {
	start    time.Duration
	interval float64 // nanoseconds
	total    int
}

// newSchedule returns the schedule of a rate, in messages per second, of one
// message at least.
func newSchedule(start time.Duration, rate float64, length time.Duration) schedule {
	total := math.Round(rate * length.Seconds())
	return schedule{start: start, interval: float64(time.Second) / rate, total: max(1, int(total))}
}

// due is when message i, counted from 0, is due. It is computed from the start,
// so that no error adds up.
func (s schedule) due(i int) time.Duration {
	return s.start + time.Duration(float64(i)*s.interval)
}

// end is when a message behind the last would be due.
func (s schedule) end() time.Duration { return s.due(s.total) }
