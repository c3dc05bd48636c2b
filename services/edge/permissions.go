package edge

import (
	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// permissions is the config of sessions with what namespaces allow them.
func (s *Service) permissions(namespaces *namespace.Set) *session.Config {
	cfg := s.cfg.sessions()
	cfg.MaySubscribe = func(user, channel string) *bayeux.Error {
		may := namespaces.MaySubscribe
		of, roster := bayeux.RosterOf(channel)
		if roster {
			channel, may = of, namespaces.MayWatch
		}
		if may(channel, caller(user)) {
			return nil
		}
		s.refused(channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED)
		return bayeux.SubscribeDenied(bayeux.DeniedByPolicy)
	}
	cfg.MayPublish = func(user, channel string, size int) *bayeux.Error {
		options := namespaces.Of(channel)
		switch {
		case !options.Publish.Allows(caller(user)):
			s.refused(channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED)
			return bayeux.PublishDenied(bayeux.DeniedByPolicy)
		case size > options.MaxMessageBytes:
			s.refused(channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE)
			return bayeux.MessageTooLarge()
		}
		return nil
	}
	cfg.Slow = func(channel string) session.Policy { return policy(namespaces.Of(channel).Slow) }
	return cfg.Defaults()
}

// policy is what a namespace says of slow clients.
func policy(slow string) session.Policy {
	switch slow {
	case namespace.DropOldest:
		return session.DropOldest
	case namespace.Conflate:
		return session.Conflate
	}
	return session.Recover
}

// caller is who a session counts as.
func caller(user string) namespace.Who {
	if user == "" {
		return namespace.Anyone
	}
	return namespace.Sessions
}
