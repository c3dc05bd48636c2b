package edge

import (
	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// replay answers from the ring, or has a broker asked.
func (s *Service) replay(c *client, r session.Replay) {
	r.Limit = min(r.Limit, longestPage)
	if !r.Earliest {
		if events, through, ok := s.hub.Replay(r.Channel, r.Since, r.Limit); ok {
			c.replayed(r.Token, session.Page{Events: events, Through: through}, nil)
			return
		}
	}
	p := page{
		slot: shard.Of(r.Channel), channels: []string{r.Channel},
		since: r.Since, earliest: r.Earliest, limit: r.Limit, known: r.Since,
	}
	room := s.reads.ask(p, func(a answer) {
		if a.err != nil {
			c.replayed(r.Token, session.Page{}, a.err)
			return
		}
		c.replayed(r.Token, session.Page{
			Events: a.events, Through: max(a.GetThrough(), r.Since), Lost: a.GetLost(),
		}, nil)
	})
	if !room {
		c.replayed(r.Token, session.Page{}, s.noRoomToRead())
	}
}

// noRoomToRead refuses history while too much of it is asked for.
func (s *Service) noRoomToRead() *bayeux.Error {
	s.refused(channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	return bayeux.LimitExceeded("replays")
}
