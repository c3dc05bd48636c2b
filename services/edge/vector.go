package edge

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

const (
	// vectorEvery is how often records are brought up to date with positions.
	vectorEvery = time.Second
	// vectorLag is how many of these times old the positions are that records
	// count from: nearly all clients have confirmed everything by then, so that
	// nothing has to be recorded of them (CORRECTNESS rule 10).
	vectorLag = 3
	// settledLag is how many vectors old the one is that all holders of records have,
	// unless they are behind by seconds.
	settledLag = 2
)

// vectors finds out once a second up to where all sessions have been given and
// have confirmed everything, and of which sessions that is not so.
func (s *Service) vectors(ctx context.Context) error {
	tick := time.NewTicker(vectorEvery)
	defer tick.Stop()
	var past, told [][]uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			past = append(past, s.handed())
			if len(past) <= vectorLag {
				continue
			}
			if told = append(told, past[0]); len(told) > settledLag {
				s.settled.Store(&told[0])
				told = told[1:]
			}
			s.except(past[0])
			past = past[1:]
		}
	}
}

// handed is up to where everything has been handed to sessions, by slot.
func (s *Service) handed() []uint64 {
	through := make([]uint64, slots)
	for slot := range through {
		through[slot] = s.hub.Handed(shard.Slot(slot))
	}
	return through
}

// except has the sessions reported that are behind a vector, or were behind the
// one before, and makes it the one that records count from.
func (s *Service) except(vector []uint64) {
	s.vector.Store(&vector)
	for c := range s.registry.all() {
		if c.fallsBehind(vector) {
			s.reports.Changed(c.session.PublicID())
		}
	}
	s.reported.Store(&vector)
}

// fallsBehind reports whether a session's record has to change because of a
// vector.
func (c *client) fallsBehind(vector []uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, behind := c.behind, c.session.Behind(vector)
	settled := c.service.settledVector()
	beyond := was && settled != nil && c.session.Beyond(settled) // its record says so
	c.behind = behind || beyond
	return behind || was && !beyond
}

// settledVector is what records count from that are to be exact; nil: none is.
func (s *Service) settledVector() []uint64 {
	if s.cfg.AckExact != ExactAfterKill {
		return nil
	}
	if v := s.settled.Load(); v != nil {
		return *v
	}
	return []uint64{}
}

func valueOf(v *atomic.Pointer[[]uint64]) []uint64 {
	if p := v.Load(); p != nil {
		return *p
	}
	return nil
}
