package edge

import (
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// presence is the service as the source of reports.
type presence Service

// Sessions implements [report.Source].
func (p *presence) Sessions() iter.Seq[string] {
	return func(yield func(string) bool) {
		for c := range p.registry.all() {
			if !yield(c.session.PublicID()) {
				return
			}
		}
		for _, session := range p.departures.sessions() {
			if !yield(session) {
				return
			}
		}
	}
}

// State implements [report.Source].
func (p *presence) State(publicID string) (*edgev1.SessionState, bool) {
	if c := p.registry.findPublic(publicID); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.session.Ended() == "" {
			return c.recordLocked(c.resumeLocked()), true
		}
	}
	left := p.departures.record(publicID)
	return left, left != nil
}

// Resume implements [report.Source].
func (p *presence) Resume(publicID string) ([]byte, bool) {
	c := p.registry.findPublic(publicID)
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Ended() != "" {
		return nil, false
	}
	resume, err := encodeResume(c.resumeLocked())
	return resume, err == nil
}

// gone is how presence is told of the end.
func (c *client) gone(why session.Reason) *edgev1.SessionGone {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &edgev1.SessionGone{Reason: string(why), Generation: generationProto(c.seat.Generation())}
}

// resumeLocked is where the session stands, as far as vectors do not say so.
func (c *client) resumeLocked() *session.Snapshot {
	return c.session.Resume(valueOf(&c.service.vector), c.service.settledVector())
}

// recordLocked is what presence keeps of a session: a snapshot, or less if that
// is too much.
func (c *client) recordLocked(snapshot *session.Snapshot) *edgev1.SessionState {
	resume, err := encodeResume(snapshot)
	if err != nil {
		resume, _ = encodeResume(c.resumeLocked()) // with none it goes on from the vector
	}
	return &edgev1.SessionState{
		User:        c.session.User(),
		Transport:   c.session.Transport(),
		Since:       timestamppb.New(c.service.timeOf(c.since)),
		Channels:    c.session.Channels(),
		Generation:  generationProto(c.seat.Generation()),
		AdoptableMs: uint32(c.service.adoptable().Milliseconds()),
		Resume:      resume,
	}
}

// Vector implements [report.Source].
func (p *presence) Vector() []uint64 {
	return valueOf(&p.reported)
}

// Sums implements [report.Source]. Of shards of which sessions are leaving nothing
// can be said: who has them now is not known.
func (p *presence) Sums(shards []shard.PresenceShard) map[shard.PresenceShard]shard.Sum {
	sums := map[shard.PresenceShard]shard.Sum{}
	if p.draining.Load() {
		return sums
	}
	for _, n := range shards {
		sums[n] = shard.Sum{}
	}
	for _, session := range p.departures.sessions() {
		delete(sums, shard.OfSession(session))
	}
	for c := range p.registry.all() {
		n := shard.OfSession(c.session.PublicID())
		if sum, wanted := sums[n]; wanted {
			c.addTo(&sum)
			sums[n] = sum
		}
	}
	return sums
}

// addTo adds the session to a sum, if it lives.
func (c *client) addTo(sum *shard.Sum) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Ended() == "" {
		g := c.seat.Generation()
		sum.Add(c.session.PublicID(), g.Epoch, g.Count, slices.Values(c.session.Channels()))
	}
}

// Superseded implements [report.Source].
func (p *presence) Superseded(publicID string, g *edgev1.Generation, edge string) {
	(*Service)(p).supersede(publicID, edge, generationOf(g))
}

// adoptable is how long after the loss of this edge its clients may still come
// back.
func (s *Service) adoptable() time.Duration {
	return home.Adoptable(s.sessions.Timeout, s.sessions.Interval, s.sessions.MaxInterval)
}
