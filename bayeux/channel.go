package bayeux

import (
	"strconv"
	"strings"
)

const (
	metaPrefix    = "/meta/"
	servicePrefix = "/service/"
	rosters       = "/presence" // Comet's own
	privatePrefix = "/@"
)

// ChannelError says why a name is not that of a channel.
type ChannelError struct {
	Name   string // shortened if long
	Reason string
}

// Error implements error.
func (e *ChannelError) Error() string {
	return "channel " + strconv.Quote(e.Name) + ": " + e.Reason
}

// ParseChannel checks the name of a literal channel or a pattern against the
// grammar and the default limits. The error is a *ChannelError.
func ParseChannel(name string) error {
	return DefaultLimits().parseChannel(name)
}

// ValidChannel reports whether name is that of a literal channel or a pattern.
func ValidChannel(name string) bool {
	return DefaultLimits().channelFault(name) == ""
}

// ValidLiteral reports whether name is that of a channel and not a pattern.
func ValidLiteral(name string) bool {
	return ValidChannel(name) && !IsPattern(name)
}

// IsPattern reports whether a valid name is a pattern: its last segment is *
// (one segment) or ** (one or more).
func IsPattern(name string) bool {
	return strings.HasSuffix(name, "/*") || strings.HasSuffix(name, "/**")
}

// IsMeta reports whether a channel or pattern is under /meta/.
func IsMeta(name string) bool { return strings.HasPrefix(name, metaPrefix) }

// IsService reports whether a channel or pattern is under /service/.
func IsService(name string) bool { return strings.HasPrefix(name, servicePrefix) }

// RosterOf returns of which channel a channel or pattern under /presence/ tells
// who is on it, if it is one: /presence/chat/room tells of /chat/room.
func RosterOf(name string) (channel string, ok bool) {
	channel, ok = strings.CutPrefix(name, rosters)
	return channel, ok && strings.HasPrefix(channel, "/")
}

// IsPrivate reports whether a channel or pattern begins with /@. The protocol
// knows no such kind: Comet keeps these names for itself.
func IsPrivate(name string) bool { return strings.HasPrefix(name, privatePrefix) }

// IsBroadcast reports whether a channel or pattern is neither under /meta/ nor
// under /service/, nor private.
func IsBroadcast(name string) bool { return !IsMeta(name) && !IsService(name) && !IsPrivate(name) }

// Match reports whether a pattern, or a literal channel, matches a literal
// channel. Both must be valid.
func Match(pattern, channel string) bool {
	if pattern == channel {
		return true
	}
	prefix, deep := strings.CutSuffix(pattern, "**")
	if !deep {
		var one bool
		if prefix, one = strings.CutSuffix(pattern, "*"); !one {
			return false
		}
	}
	if prefix == "/" && !IsBroadcast(channel) || !strings.HasSuffix(prefix, "/") {
		return false
	}
	rest, under := strings.CutPrefix(channel, prefix)
	return under && rest != "" && (deep || !strings.Contains(rest, "/"))
}

func (l Limits) parseChannel(name string) error {
	fault := l.channelFault(name)
	if fault == "" {
		return nil
	}
	const shown = 64
	if len(name) > shown {
		name = name[:shown] + "…"
	}
	return &ChannelError{Name: name, Reason: fault}
}

// channelFault returns what is wrong with a name, empty if nothing is.
func (l Limits) channelFault(name string) string {
	switch {
	case name == "":
		return "empty"
	case len(name) > l.ChannelBytes:
		return "longer than " + strconv.Itoa(l.ChannelBytes) + " bytes"
	case name[0] != '/':
		return "does not begin with /"
	}
	segments, start := 0, 1
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			if !isChannelByte(name[i]) {
				return "a character that is not allowed"
			}
			continue
		}
		segment := name[start:i]
		if segment == "" {
			return "an empty segment"
		}
		if i < len(name) && (segment == "*" || segment == "**") {
			return "a wildcard before the last segment"
		}
		segments++
		start = i + 1
	}
	if segments > l.Segments {
		return "more than " + strconv.Itoa(l.Segments) + " segments"
	}
	return ""
}

func isChannelByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("-_!~()$@ #*+.{}", c) >= 0
}
