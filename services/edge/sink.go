package edge

import (
	"context"
	"time"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/hub"
)

// sink is where entries from brokers arrive.
type sink struct{ *Service }

// Entries implements [upstream.Sink].
func (s sink) Entries(slot shard.Slot, entries []*brokerv1.Entry) {
	for _, e := range entries {
		s.hub.Entry(newEvent(slot, e))
	}
}

// Resync implements [upstream.Sink].
func (s sink) Resync(at shard.Position, channels []string) {
	s.metrics.resyncs.Add(float64(s.hub.Resync(at, channels)))
}

// Through implements [upstream.Sink].
func (s sink) Through(at shard.Position) { s.hub.Through(at) }

// Joined implements [upstream.Sink].
func (s sink) Joined(channel string, from []shard.Position) { s.hub.Joined(channel, from) }

// interests tells the follower what the hub wants, and the sessions when they
// waited too long for it. It is one goroutine, so joins and leaves of a channel
// do not overtake each other.
func (s *Service) interests(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.hub.Changed():
			s.hub.Changes(func(c hub.Change) {
				if c.Join {
					s.follower.Join(c.Channel)
				} else {
					s.follower.Leave(c.Channel)
				}
			})
		case now := <-tick.C:
			s.hub.Expire(now.Add(-s.cfg.JoinTimeout))
			s.hub.Sweep(now)
			s.forget(now)
		}
	}
}

// subscriber is who reads channels through the hub: the shell of a Bayeux
// session or of a plain request. It is a pointer.
type subscriber interface {
	Deliver(via string, e *event.Event)
	Resync(channel string, at shard.Position)
	Subscribed(token uint64, from []shard.Position, err *bayeux.Error)
	Settle()
}
