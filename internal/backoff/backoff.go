// Package backoff spaces out attempts that failed.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Policy says how long to wait between attempts: Base after the first failure,
// twice as long after each further one, never more than Max, and of that a
// random part between half and all, so that peers do not come back in step.
type Policy struct {
	Base, Max time.Duration
}

// Delay returns how long to wait after the given number of failures in a row;
// none without a failure.
func (p Policy) Delay(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := p.Max
	if shift := failures - 1; shift < 32 && p.Base < p.Max>>shift {
		d = p.Base << shift
	}
	if d <= 1 {
		return d
	}
	return d/2 + rand.N(d/2)
}

// Pause waits, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-ctx.Done():
	case <-over.C:
	}
}
