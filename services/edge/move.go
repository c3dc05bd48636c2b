package edge

import (
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// handOver ends the session here and returns what it takes to go on elsewhere,
// nil if it has ended.
func (c *client) handOver() *edgev1.SessionSnapshot {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	if c.session.Ended() != "" {
		c.mu.Unlock()
		return nil
	}
	snap := c.session.Snapshot(c.service.hub.Handed) // with the lock held: what is handed was given to it
	snap.Since = c.service.sessions.Origin.Add(c.since)
	c.session.Move(&out)
	c.settle(now, &out)
	return encodeSnapshot(snap)
}

// adopt goes on with a session from elsewhere; see [session.Restore]. It reports
// nil if there is no room for one more.
func (s *Service) adopt(id, publicID string, snap *session.Snapshot, vector []uint64) *client {
	if !s.registry.reserve() {
		return nil
	}
	var out session.Effects
	now := time.Now()
	c := &client{
		service: s, since: s.sinceStart(snap.Since),
		session: session.Restore(s.sessions, id, publicID, snap, vector, now, &out),
	}
	c.timer.Value = c
	c.mu.Lock()
	s.registry.add(c)
	s.reports.Changed(publicID)
	c.settle(now, &out)
	return c
}
