package edge

import (
	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// replay answers from the ring of a channel, or has a broker asked.
func (s *Service) replay(c *client, r session.Replay) {
	r.Limit = min(r.Limit, longestPage)
	if found, ok := s.recent(&r); ok {
		c.replayed(r.Token, found, nil)
		return
	}
	p := page{
		slot: r.Slot, channels: r.Channels,
		since: r.Since, earliest: r.Earliest, limit: r.Limit, known: max(r.Since, r.Through),
	}
	room := s.reads.ask(p, func(a answer) {
		if a.err != nil {
			c.replayed(r.Token, session.Page{}, a.err)
			return
		}
		c.replayed(r.Token, a.pageFor(&r), nil)
	})
	if !room {
		c.replayed(r.Token, session.Page{}, s.noRoomToRead())
	}
}

// recent answers from the ring of a channel, if that has all.
func (s *Service) recent(r *session.Replay) (found session.Page, ok bool) {
	if len(r.Channels) > 1 || r.Earliest || bayeux.IsPattern(r.Channels[0]) {
		return found, false
	}
	found.Events, found.Through, ok = s.hub.Replay(r.Channels[0], r.Since, r.Limit)
	return found, ok && (found.Through >= r.Through || len(found.Events) == r.Limit)
}

// pageFor is the answer as a session takes it.
func (a answer) pageFor(r *session.Replay) session.Page {
	if a.GetLost() {
		return session.Page{Through: a.GetThrough(), Lost: r.Channels}
	}
	return session.Page{Events: a.events, Through: max(a.GetThrough(), r.Since), Lost: a.GetLostChannels()}
}

// noRoomToRead refuses history while too much of it is asked for.
func (s *Service) noRoomToRead() *bayeux.Error {
	s.refused(channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	return bayeux.LimitExceeded("replays")
}
