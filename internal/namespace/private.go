package namespace

import (
	"strings"
	"time"
)

// Channels that begin with /@ are Comet's own: no door lets anybody publish or
// subscribe to them, no pattern of others matches them, and no namespace covers
// them.
const (
	// PresenceEvents is what the channels begin with that carry what happened to
	// sessions.
	PresenceEvents = "/@presence/events/"
	// PresenceWebhook is what those begin with that say up to where the webhook
	// was told.
	PresenceWebhook = "/@presence/webhook/"
)

// private returns the options of a channel that begins with /@.
func private(channel string) Options {
	o := Options{
		Pattern: channel, Subscribe: Nobody, Publish: Nobody, Messages: DefaultMessages, Bytes: DefaultBytes,
		Age: DefaultAge, MaxMessageBytes: 64 << 10, Presence: "off", Slow: Recover, OnResync: "event",
	}
	switch {
	case strings.HasPrefix(channel, PresenceEvents):
		o.Messages, o.Bytes, o.Age = 100_000, 2<<20, 24*time.Hour
	case strings.HasPrefix(channel, PresenceWebhook):
		o.Messages, o.Age = 4, 30*24*time.Hour
	}
	return o
}
