package bayeux

import (
	"strconv"
	"strings"
)

// The usual first argument of a 403.
const (
	DeniedByPolicy      = "denied_by_security_policy"
	DeniedByNotGranting = "denied_by_not_granting"
)

// Error is the error member of a reply: code, arguments and a text. The texts
// are CometD's, which applications match on.
type Error struct {
	Code int
	Args []string
	Text string
}

// String returns code:args:text, for example 402::session_unknown.
func (e *Error) String() string {
	return strconv.Itoa(e.Code) + ":" + strings.Join(e.Args, ",") + ":" + e.Text
}

func newError(code int, text string, args ...string) *Error {
	return &Error{Code: code, Args: args, Text: text}
}

// VersionMismatch refuses a handshake of another version than 1.x.
func VersionMismatch(version string) *Error { return newError(300, "Version mismatch", version) }

// ConnectionTypesUnsupported refuses a handshake without a connection type in
// common; types are the client's.
func ConnectionTypesUnsupported(types ...string) *Error {
	return newError(301, "Connection types not supported", types...)
}

// ChannelMissing answers a message without a channel.
func ChannelMissing() *Error { return newError(400, "channel_missing") }

// MemberInvalid answers a message with a member of the wrong type.
func MemberInvalid(member string) *Error { return newError(400, "member_invalid", member) }

// MemberRepeated answers a message that has a member twice.
func MemberRepeated(member string) *Error { return newError(400, "member_repeated", member) }

// ReplayInvalid answers a subscribe whose ext.replay cannot be read.
func ReplayInvalid() *Error { return newError(400, "replay_invalid") }

// ReplayLost answers a subscribe whose replay position is no longer retained.
func ReplayLost(channel string) *Error { return newError(400, "replay_lost", channel) }

// SessionUnknown answers a message of an unknown, expired or foreign clientId.
func SessionUnknown() *Error { return newError(402, "session_unknown") }

// ParameterMissing answers a message that lacks a member it needs.
func ParameterMissing(member string) *Error {
	return newError(402, "Missing required parameter", member)
}

// HandshakeDenied refuses a handshake by policy.
func HandshakeDenied() *Error { return newError(403, "handshake_denied") }

// HandshakeFailed answers a handshake that failed inside the server.
func HandshakeFailed() *Error { return newError(403, "handshake_failed") }

// ChannelCreateDenied refuses a publish to a channel that may not exist.
func ChannelCreateDenied(reason string) *Error { return newError(403, "channel_create_denied", reason) }

// CreateDenied refuses a subscribe to a channel that may not exist.
func CreateDenied(reason string) *Error { return newError(403, "create_denied", reason) }

// SubscribeDenied refuses a subscribe by policy.
func SubscribeDenied(reason string) *Error { return newError(403, "subscribe_denied", reason) }

// SubscribeFailed answers a subscribe that failed inside the server.
func SubscribeFailed() *Error { return newError(403, "subscribe_failed") }

// UnsubscribeFailed answers an unsubscribe that failed inside the server.
func UnsubscribeFailed() *Error { return newError(403, "unsubscribe_failed") }

// SubscriptionMissing answers a subscribe or unsubscribe without subscription.
func SubscriptionMissing() *Error { return newError(403, "subscription_missing") }

// SubscriptionInvalid answers a subscription that breaks the grammar.
func SubscriptionInvalid() *Error { return newError(403, "subscription_invalid") }

// PublishDenied refuses a publish by policy.
func PublishDenied(reason string) *Error { return newError(403, "publish_denied", reason) }

// MessageDeleted answers a message that an extension has vetoed.
func MessageDeleted() *Error { return newError(404, "message_deleted") }

// ChannelInvalid answers a message whose channel breaks the grammar or is a
// pattern.
func ChannelInvalid() *Error { return newError(405, "channel_invalid") }

// MessageIDInvalid answers a message whose id is too long, or neither a string
// nor a number.
func MessageIDInvalid() *Error { return newError(405, "message_id_invalid") }

// MessageTooLarge answers a publish with more data than the channel takes.
func MessageTooLarge() *Error { return newError(413, "message_too_large") }

// LimitExceeded refuses a message because of a limit; what names the limit.
func LimitExceeded(what string) *Error { return newError(429, "limit_exceeded", what) }

// Unavailable answers a message whose outcome is unknown or that could not be
// carried out now; the client may repeat it.
func Unavailable() *Error { return newError(503, "unavailable") }
