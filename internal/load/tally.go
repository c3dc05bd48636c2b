package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// maxFaults bounds how many different faults are told apart.
const maxFaults = 16

// tally is what the clients of a worker add up; all its numbers only grow,
// except those that begin a phase anew.
type tally struct {
	live       int // clients that are subscribed now
	opening    int // clients on their way to that
	joined     int // clients that have been subscribed
	failed     int // clients given up
	retries    int // attempts that failed, of clients not yet subscribed
	reconnects int // connections lost, of clients that were

	gaps, repeats, late, strays int
	// resyncs are announcements that history is lost.
	resyncs int
	bytes   int64
	// complete is when the last client joined.
	complete time.Duration
	faults   map[string]int

	// from is when the phase began: what was due earlier is not part of it.
	from      time.Duration
	delivered int64
	latency   *hdrhistogram.Histogram
	setup     *hdrhistogram.Histogram
	busy      time.Duration // in which the worker did not wait
}

// newHistogram is for microseconds up to an hour, to three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Hour.Microseconds(), 3)
}

// record adds a time, at most an hour.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d, 0), time.Hour).Microseconds()) // always in range
}

func newTally() tally {
	return tally{faults: map[string]int{}, latency: newHistogram(), setup: newHistogram()}
}

// begin starts a phase.
func (t *tally) begin(from time.Duration) {
	t.from, t.delivered = from, 0
	t.latency.Reset()
}

// add adds another worker's.
func (t *tally) add(o *tally) {
	t.live += o.live
	t.opening += o.opening
	t.joined += o.joined
	t.failed += o.failed
	t.retries += o.retries
	t.reconnects += o.reconnects
	t.gaps += o.gaps
	t.repeats += o.repeats
	t.late += o.late
	t.strays += o.strays
	t.resyncs += o.resyncs
	t.bytes += o.bytes
	t.delivered += o.delivered
	t.busy = max(t.busy, o.busy)
	t.complete = max(t.complete, o.complete)
	for text, n := range o.faults {
		t.faults[text] += n
	}
}

func (t *tally) fault(err error) {
	text := err.Error()
	if _, known := t.faults[text]; !known && len(t.faults) >= maxFaults {
		text = "other faults"
	}
	t.faults[text]++
}
