package load

import (
	"fmt"
	"slices"
	"strings"
)

// Transports are the names of all transports: those of Bayeux first, then those
// of plain channels.
func Transports() []string {
	return []string{
		"long-polling", "callback-polling", "websocket",
		"poll", "long-poll", "sse", "stream", "multipart", "frame", "jsonp", "ws",
	}
}

// checkTransport says what is wrong with a transport's name.
func checkTransport(name string) error {
	if slices.Contains(Transports(), name) {
		return nil
	}
	return fmt.Errorf("transport %q is not one of %s", name, strings.Join(Transports(), ", "))
}

// newSession makes a client's session; the transport's name has been checked.
func newSession(d *door, c *client) session {
	b := bayeux{client: c, channel: d.name(c.channel), kind: d.transport}
	switch d.transport {
	case "long-polling", "callback-polling":
		return &bayeuxPolls{door: d, bayeux: b}
	case "websocket":
		return &bayeuxSocket{door: d, bayeux: b}
	case "poll", "long-poll", "jsonp":
		return &replies{door: d, client: c}
	case "ws":
		return &plainSocket{door: d, client: c}
	}
	return &stream{door: d, client: c}
}
