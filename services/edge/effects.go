package edge

import (
	"time"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// carryOut does what a session asked for. Nothing here blocks.
func (s *Service) carryOut(c *client, out *session.Effects) {
	for _, i := range out.Interests {
		switch _, roster := bayeux.RosterOf(i.Channel); {
		case roster:
			s.rosters.interest(c, i)
		case i.Leave:
			s.hub.Unsubscribe(c, i.Channel)
		default:
			s.hub.Subscribe(time.Now(), c, i.Token, i.Channel)
		}
	}
	s.rosters.take(c, out)
	for _, p := range out.Publishes {
		s.publish(c, p)
	}
	for _, r := range out.Replays {
		s.replay(c, r)
	}
	for _, i := range out.Places {
		c.placed(i, s.hub.From(i.Channel))
	}
	if out.Ended == "" {
		if len(out.Joined)+len(out.Left) > 0 {
			s.reports.Changed(c.session.PublicID())
		}
		return
	}
	if out.Ended != session.Moved && out.Ended != session.Refused {
		s.endings.add(c.session.PublicID(), time.Now()) // before nobody finds it here
	}
	if s.registry.remove(c) {
		s.metrics.ended.WithLabelValues(string(out.Ended)).Inc()
		if out.Ended != session.Refused && out.Ended != session.Moved {
			s.reports.Gone(c.session.PublicID(), c.gone(out.Ended))
		}
	}
}

func (s *Service) publish(c *client, p session.Publish) {
	if int(c.publishes.Add(1)) > s.cfg.Publishes {
		c.publishes.Add(-1)
		s.refused(channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
		c.published(p.Token, bayeux.LimitExceeded("publishes"))
		return
	}
	s.publisher.Publish(upstream.Publication{
		Channel: p.Channel, Data: p.Data, Ext: p.Ext, Members: p.Members, Session: p.Session, ID: p.ID,
	}, func(_ upstream.Ack, err error) {
		c.publishes.Add(-1)
		if err == nil {
			s.metrics.publishes.Inc()
			c.published(p.Token, nil)
			return
		}
		reason := rpc.Reason(err)
		s.refused(reason)
		c.published(p.Token, publishError(reason))
	})
}

// publishError is how a client is told why its message was refused.
func publishError(reason channelv1.ErrorReason) *bayeux.Error {
	switch reason {
	case channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE:
		return bayeux.MessageTooLarge()
	case channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID:
		return bayeux.ChannelInvalid()
	case channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED:
		return bayeux.PublishDenied(bayeux.DeniedByPolicy)
	case channelv1.ErrorReason_ERROR_REASON_BUSY, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED:
		return bayeux.LimitExceeded("publishes")
	}
	return bayeux.Unavailable()
}
