package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/services/edge/internal/session"
)

var errFull = errors.New("this edge has as many sessions as it may")

// install makes a session that was claimed live here: from what its home handed
// over or, if the step says so, from what is recorded of it.
func (s *Service) install(
	clientID string, claimed *edgev1.ClaimResponse, taken *edgev1.TakeResponse, step home.Step,
) (*client, error) {
	from := "home"
	snapshot, err := decodeSnapshot(taken.GetSnapshot())
	if step.Do == home.RestoreRecord {
		from = "record"
		snapshot, err = decodeRecord(claimed.GetState())
	}
	if err != nil {
		return nil, fmt.Errorf("adopt session %s: %w", publicID(clientID), err)
	}
	if !s.registry.reserve() {
		return nil, errFull
	}
	snapshot.Batch = home.Batch(snapshot.Batch, generationOf(claimed.GetState().GetGeneration()), step.Generation, step.Exact)
	now := time.Now()
	c := &client{
		service: s, since: s.sinceStart(now) - max(now.Sub(snapshot.Since), 0), seat: home.NewSeat(step.Generation, now),
	}
	c.timer.Value = c
	var out session.Effects
	c.mu.Lock()
	c.session = session.Restore(s.sessions, clientID, publicID(clientID), snapshot, claimed.GetVector().GetOffsets(), now, &out)
	s.registry.add(c)
	s.homes.forget(clientID)
	s.metrics.adopted.WithLabelValues(from).Inc()
	s.reports.Changed(c.session.PublicID())
	c.settle(now, &out)
	return c, nil
}

// hand hands a session over to the edge that has claimed it; nil if there is none.
// An error is [home.ErrStale].
func (s *Service) hand(ctx context.Context, session, to string, g home.Generation) (*edgev1.TakeResponse, error) {
	if c := s.registry.findPublic(session); c != nil {
		c.calm(ctx)
		if err := c.leaveFor(func(seat *home.Seat, until time.Time) error {
			_, err := seat.Take(to, g, until)
			return err
		}); err != nil {
			c.leave(false)
			return nil, err
		}
	}
	return s.departures.take(session, to, g)
}

// calm waits a little until nothing of a session is under way but connects, and
// has nothing new begun: of what is under way when it leaves nobody hears the end.
func (c *client) calm(ctx context.Context) {
	const patience, every = takePatience / 2, 5 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for c.leave(true) && ctx.Err() == nil {
		backoff.Pause(ctx, every)
	}
}

// leave says whether the session is about to leave, and returns whether something
// is under way.
func (c *client) leave(leaving bool) (busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = leaving
	connects := 0
	if c.session.Holding() {
		connects = 1
	}
	return c.publishes.Load() > 0 || len(c.exchanges) > connects
}

// leaveFor ends a session here and keeps a copy of it, once its seat was given
// away; it does nothing if that fails, or the session is over.
func (c *client) leaveFor(give func(seat *home.Seat, until time.Time) error) error {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	until := now.Add(departedFor)
	if c.session.Ended() != "" {
		c.mu.Unlock()
		return nil
	}
	if err := give(&c.seat, until); err != nil {
		c.mu.Unlock()
		return err
	}
	leaving := c.session.Snapshot(c.service.hub.Handed)
	leaving.Since = c.service.timeOf(c.since)
	if to, _ := c.seat.Home(); to != "" {
		c.service.homes.note(c.session.ID(), to)
	}
	c.service.departures.add(&departure{
		session: c.session.PublicID(), seat: c.seat, snapshot: encodeSnapshot(leaving),
		record: c.recordLocked(leaving), until: until,
	})
	if c.service.draining.Load() {
		c.service.drain.handed.Add(1)
	}
	c.session.Move(&out)
	c.settle(now, &out)
	return nil
}

// deposit ends a session here and leaves it to the edge that its client comes to
// next: until then presence keeps all of it.
func (c *client) deposit() {
	_ = c.leaveFor(func(*home.Seat, time.Time) error { return nil }) // it cannot fail
	c.service.reports.Changed(c.session.PublicID())
}

// forget forgets sessions that left long ago. Presence is told: if it has not
// heard of a new home by then there is none.
func (s *Service) forget(now time.Time) {
	for _, x := range s.departures.sweep(now) {
		s.reports.Gone(x.session, &edgev1.SessionGone{
			Reason: string(session.Moved), Generation: generationProto(x.seat.Generation()),
		})
	}
}

// supersede hears from presence that a session of this edge is another's, or over,
// or that this edge was thought to be lost. It does not block.
func (s *Service) supersede(session, edge string, g home.Generation) {
	c := s.registry.findPublic(session)
	switch {
	case c == nil:
	case edge == "" || edge == s.node.Member():
		s.yield(c, edge, g)
	default: // which takes it soon, or has its record
		s.arrivals.do(func(ctx context.Context) {
			c.calm(ctx)
			s.yield(c, edge, g) //nolint:contextcheck // what it has begun outlives the wait
		})
	}
}

// yield does what a session's seat makes of what presence says.
func (s *Service) yield(c *client, edge string, g home.Generation) {
	verdict := home.Nothing
	err := c.leaveFor(func(seat *home.Seat, until time.Time) error {
		if verdict = seat.Superseded(s.node.Member(), edge, g, until); verdict != home.Keep {
			return home.ErrStale
		}
		return nil
	})
	if err != nil { // it stays
		c.leave(false)
	}
	switch verdict {
	case home.Claim:
		s.arrivals.reclaim(c, g)
	case home.End:
		c.end(sessionOver)
	case home.Nothing, home.Keep:
	}
}

// sessionOver is why a session ends here that presence knows to be over: its
// client is told to handshake again.
const sessionOver = session.Drained

// succeed makes this the home in a later generation.
func (c *client) succeed(g home.Generation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.After(c.seat.Generation()) && c.seat.Serves() {
		c.seat = home.NewSeat(g, time.Now())
	}
}
