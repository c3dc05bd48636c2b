package broker

import (
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/upstream"
)

const (
	maxDepth         = 64  // of data's JSON
	maxKeyBytes      = 128 // of an idempotency key
	maxIDBytes       = 256 // of a message id
	maxSessionBytes  = 128
	maxSubscriptions = 64 // channels of one Subscribe
	maxPage          = 1000
	defaultPage      = 100
)

func invalid(reason channelv1.ErrorReason, format string, args ...any) error {
	return rpc.Error(codes.InvalidArgument, reason, format, args...)
}

// checkPublish says what is wrong with a backend's publish.
func checkPublish(set *namespace.Set, m *pubsubv1.PublishRequest) error {
	channel := m.GetChannel()
	if err := checkLiteral(channel); err != nil {
		return err
	}
	if bayeux.IsService(channel) {
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID,
			"%s carries messages from browsers to backends; answer one with Deliver, or publish to another channel", channel)
	}
	if err := checkNoRoster(channel); err != nil {
		return err
	}
	options := set.Of(channel)
	if !options.Publish.Allows(namespace.Backends) {
		return rpc.Error(codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED,
			"nobody may publish to %s; give it a namespace with publish: backends", channel)
	}
	if err := checkPayload(options, m.GetData(), m.GetExt()); err != nil {
		return err
	}
	if len(m.GetIdempotencyKey()) > maxKeyBytes {
		return invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
			"idempotency_key has %d bytes; at most %d are allowed", len(m.GetIdempotencyKey()), maxKeyBytes)
	}
	return nil
}

// publication is a checked publish as the upstream takes it.
func publication(m *pubsubv1.PublishRequest) upstream.Publication {
	return upstream.Publication{Channel: m.GetChannel(), Data: m.GetData(), Ext: m.GetExt(), Key: m.GetIdempotencyKey()}
}

// checkLiteral accepts literal channels that are not reserved.
func checkLiteral(channel string) error {
	if err := bayeux.ParseChannel(channel); err != nil {
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, "%v", err)
	}
	if bayeux.IsPattern(channel) {
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID,
			"%s is a pattern; a literal channel is needed here", channel)
	}
	return checkReserved(channel)
}

func checkReserved(channel string) error {
	if channel == "/meta" || bayeux.IsMeta(channel) {
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID,
			"%s is reserved for the protocol", channel)
	}
	if bayeux.IsPrivate(channel) {
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID,
			"%s is reserved: names that begin with /@ are Comet's own; choose another", channel)
	}
	return nil
}

// checkNoRoster refuses messages that would be taken for news of who is there.
func checkNoRoster(channel string) error {
	if _, roster := bayeux.RosterOf(channel); roster {
		return rpc.Error(codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED,
			"nobody publishes to %s: edges tell there who is on a channel", channel)
	}
	return nil
}

func checkPayload(o namespace.Options, data, ext []byte) error {
	if size := len(data) + len(ext); size > o.MaxMessageBytes {
		return invalid(channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE,
			"data and ext have %d bytes; the channel's namespace allows %d", size, o.MaxMessageBytes)
	}
	if err := bayeux.CheckValue(data, maxDepth); err != nil {
		return invalid(channelv1.ErrorReason_ERROR_REASON_DATA_INVALID, "data is not one JSON value: %v", err)
	}
	if len(ext) == 0 {
		return nil
	}
	if err := bayeux.CheckObject(ext, maxDepth); err != nil {
		return invalid(channelv1.ErrorReason_ERROR_REASON_DATA_INVALID, "ext is not one JSON object: %v", err)
	}
	return nil
}

// checkSubscribe says what is wrong with the channels of a subscription.
func checkSubscribe(set *namespace.Set, channels []string, anyPattern bool) error {
	switch n := len(channels); {
	case n == 0:
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, "name at least one channel")
	case n > maxSubscriptions:
		return invalid(channelv1.ErrorReason_ERROR_REASON_TOO_MANY_CHANNELS,
			"%d channels; one subscription takes at most %d", n, maxSubscriptions)
	}
	for _, channel := range channels {
		if err := checkInterest(channel, anyPattern); err != nil {
			return err
		}
		if of, roster := bayeux.RosterOf(channel); roster {
			return rpc.Error(codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED,
				"%s is for browsers; call WatchRoster with %s", channel, of)
		}
		if !set.MaySubscribe(channel, namespace.Backends) {
			return rpc.Error(codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED,
				"nobody may subscribe to %s; give it a namespace with subscribe: backends", channel)
		}
	}
	return nil
}

// checkInterest accepts literal channels, and patterns that fix a segment.
func checkInterest(channel string, anyPattern bool) error {
	if err := bayeux.ParseChannel(channel); err != nil {
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, "%v", err)
	}
	if err := checkReserved(channel); err != nil {
		return err
	}
	if !anyPattern && bayeux.IsPattern(channel) && strings.Count(channel, "/") < 2 {
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID,
			"%s would receive every channel; begin the pattern with a literal segment, for example /news/**", channel)
	}
	return nil
}

// checkDeliver says what is wrong with a message for one session.
func checkDeliver(set *namespace.Set, channel string, data, ext []byte, session, id string) error {
	if err := checkLiteral(channel); err != nil {
		return err
	}
	if err := checkNoRoster(channel); err != nil {
		return err
	}
	if err := checkSession(session); err != nil {
		return err
	}
	if len(id) > maxIDBytes {
		return invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
			"id has %d bytes; at most %d are allowed", len(id), maxIDBytes)
	}
	return checkPayload(set.Of(channel), data, ext)
}

// checkSession says what is wrong with a session's public id.
func checkSession(session string) error {
	if session == "" || len(session) > maxSessionBytes {
		return invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
			"session is to be a session's public id, 1 to %d bytes", maxSessionBytes)
	}
	return nil
}

// pageSize checks how many of something are to be returned.
func pageSize(parameter string, n uint32) (int, error) {
	switch {
	case n == 0:
		return defaultPage, nil
	case n > maxPage:
		return 0, invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
			"%s is %d; 1 to %d are allowed", parameter, n, maxPage)
	}
	return int(n), nil
}
