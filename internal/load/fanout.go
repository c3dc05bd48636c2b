package load

import (
	"context"
	"errors"
	"fmt"
	"math"
)

const (
	// firstDeliveries is how many deliveries per second Fanout begins with.
	firstDeliveries = 8000
	// near is how close the highest good rate and the lowest bad one have to
	// come.
	near = 1.08
	// maxSteps bounds the search.
	maxSteps = 24
)

// fanout doubles the rate until it is too much, and closes in on the highest
// that is not.
func (r *runner) fanout(ctx context.Context) error {
	var best *burst
	good, bad := 0.0, math.Inf(1)
	rate := firstDeliveries / float64(r.cfg.Clients)
	for range maxSteps {
		b, err := r.try(ctx, rate)
		if err != nil {
			return err
		}
		if b != nil {
			best, good = b, rate
		} else {
			bad = rate
		}
		switch {
		case bad/max(good, 1e-9) < near:
			return r.keep(best)
		case math.IsInf(bad, 1):
			rate *= 2
		case good == 0:
			rate /= 2
		default:
			rate = math.Sqrt(good * bad)
		}
		if rate > maxRate || rate*r.cfg.Duration.Seconds() < 1 {
			break
		}
	}
	switch {
	case best == nil:
		return errors.New("no rate stayed within the limit: take fewer --clients, or a higher --limit")
	case math.IsInf(bad, 1):
		r.result.Warnings = append(r.result.Warnings, "no rate was found to be too high: the maximum lies above")
	}
	return r.keep(best)
}

// try returns what came of a rate, nil if it was too high twice: once is what
// something else on the machine can do.
func (r *runner) try(ctx context.Context, rate float64) (*burst, error) {
	for range 2 {
		b, err := r.step(ctx, rate, r.cfg.Duration, "trying")
		if err != nil {
			return nil, err
		}
		fault := r.fault(b)
		r.result.Steps = append(r.result.Steps, Step{
			RatePerSec: rate, PerSecond: b.perSecond(), P99: b.latency.P99, Lost: b.lost(), Fault: fault,
		})
		if err := r.wait(ctx, r.settle, "resting"); err != nil {
			return nil, err
		}
		if fault == "" {
			return b, nil
		}
	}
	return nil, nil
}

// fault says why a rate is too high, with an empty text if it is not.
func (r *runner) fault(b *burst) string {
	switch {
	case b.published.faults > 0:
		return "publishing: " + b.published.fault.Error()
	case b.lost() > 0:
		return fmt.Sprintf("%d lost", b.lost())
	case b.latency.P99 > float64(r.cfg.Limit.Milliseconds()):
		return fmt.Sprintf("p99 %.0f ms", b.latency.P99)
	}
	return ""
}
