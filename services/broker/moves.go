package broker

import (
	"context"
	"time"

	"github.com/comet-push/comet/internal/backoff"
)

// Slots are handed over one after the other: the publishes of each wait
// meanwhile, and the less all processes have to do at a time the sooner it is
// over. breath is the least time between two; it is as long as the last one took
// where that is longer, so that a busy cluster gets as much for everything else.
const breath = 10 * time.Millisecond

// handover is how far a slot is in being handed over. Guarded by the place's
// lock.
type handover struct {
	queued bool          // it waits for its turn
	over   chan struct{} // closed when its turn is over; nil: it has none
}

// queue makes a place wait for its turn to be handed over. The place's lock is
// held.
func (s *places) queue(p *place) {
	if !p.handover.queued {
		p.handover.queued = true
		s.moves <- p // has room for all
	}
}

// move gives places their turns, until ctx ends.
func (s *places) move(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-s.moves:
			began := time.Now()
			s.handOver(ctx, p)
			backoff.Pause(ctx, max(breath, time.Since(began)))
		}
	}
}

// handOver gives a place its turn, and waits until that is over: until its next
// primary has been heard from, or nothing has come of it.
func (s *places) handOver(ctx context.Context, p *place) {
	over := make(chan struct{})
	p.locked(func(p *place) {
		p.handover = handover{over: over}
		s.tellLocked(p, func(now time.Time) { p.replica.Turn(now, &p.effects) })
		p.endTurn()
	})
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// endTurn ends the turn of a place that is not being handed over any more.
func (p *place) endTurn() {
	if p.handover.over != nil && !p.replica.Moving() {
		close(p.handover.over)
		p.handover.over = nil
	}
}
