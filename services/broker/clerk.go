package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

const (
	clerks       = 8  // writes at a time that nothing waits for
	urgentClerks = 24 // others, and readings, at a time
	clerkTimeout = 3 * time.Second
	clerkRetry   = 200 * time.Millisecond
)

// clerk writes and reads rows for the machines, of which each has at most one
// write and one reading under way.
type clerk struct {
	places *places
	jobs   chan job // these and
	urgent chan job // have room for all there can be
}

// job is something to do about a row.
type job struct {
	place *place
	write *replica.Write // nil: read
}

// errand is how far the reading of a row is. Guarded by the place's lock.
type errand int

const (
	idle    errand = iota
	reading        // will be told
	again          // will be read once more: it was asked for meanwhile
)

func newClerk(s *places) *clerk {
	return &clerk{places: s, jobs: make(chan job, shard.Slots), urgent: make(chan job, 2*shard.Slots)}
}

// write writes a row and tells what became of it. The place's lock is held.
func (c *clerk) write(p *place, w *replica.Write) {
	if w.Urgent {
		c.urgent <- job{p, w}
		return
	}
	c.jobs <- job{p, w}
}

// read reads a row, not before now, and tells it. The place's lock is held.
func (c *clerk) read(p *place) {
	if p.errand != idle {
		p.errand = again
		return
	}
	p.errand = reading
	c.urgent <- job{place: p}
}

// Run does what there is to do until ctx ends.
func (c *clerk) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	for range clerks {
		workers.Go(func() { c.work(ctx, c.jobs) })
	}
	for range urgentClerks {
		workers.Go(func() { c.work(ctx, c.urgent) })
	}
	return nil
}

func (c *clerk) work(ctx context.Context, jobs <-chan job) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-jobs:
			c.do(ctx, j)
		}
	}
}

func (c *clerk) do(ctx context.Context, j job) {
	if j.write != nil {
		outcome, version := c.swap(ctx, j)
		c.places.tellWritten(j.place, j.write, outcome, version)
		return
	}
	for {
		row, err := c.row(ctx, j.place.number)
		if err == nil && c.places.tellRead(j.place, row) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(clerkRetry):
		}
	}
}

func (c *clerk) row(ctx context.Context, n shard.Slot) (shard.Row, error) {
	ctx, cancel := context.WithTimeout(ctx, clerkTimeout)
	defer cancel()
	return c.places.directory.Row(ctx, n)
}

func (c *clerk) swap(ctx context.Context, j job) (replica.Outcome, int64) {
	row := j.write.Row
	if row.Primary != c.places.self {
		node, announced := c.places.known().Node(row.Primary)
		if !announced {
			return replica.Refused, 0 // it is to be present
		}
		row.Addr = node.Addr
	}
	ctx, cancel := context.WithTimeout(ctx, clerkTimeout)
	defer cancel()
	version, err := c.places.directory.Swap(ctx, membership.Change{Slot: j.place.number, Row: row, Present: j.write.Present})
	switch {
	case err == nil:
		return replica.Applied, version
	case errors.Is(err, membership.ErrConflict):
		return replica.Refused, 0
	}
	c.places.logger.Warn("a row may not have been written; reading it again",
		slog.Int("slot", int(j.place.number)), slog.Any("error", err))
	return replica.Unknown, 0
}

// tellWritten tells what became of a write.
func (s *places) tellWritten(p *place, w *replica.Write, outcome replica.Outcome, version int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if outcome == replica.Applied {
		row := w.Row
		row.Version = version
		p.note(row)
		if row.Primary != s.self {
			s.metrics.handovers.Inc()
		}
	}
	s.tellLocked(p, func(now time.Time) { p.replica.Written(now, outcome, version, &p.effects) })
}

// tellRead tells a row that was read; false if it must be read again.
func (s *places) tellRead(p *place, row shard.Row) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if row.Version < p.row.Version {
		return false // the store has lost its data; the controller writes it anew
	}
	if p.errand == again {
		p.errand = idle
		s.clerk.read(p)
		return true
	}
	p.errand, p.lapsed = idle, false
	s.tellRowLocked(p, row)
	return true
}
