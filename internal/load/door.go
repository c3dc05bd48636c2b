package load

import (
	"fmt"
	"time"
)

// door is where clients connect, and what all of them ask for.
type door struct {
	host      string // as in the header Host
	path      string // of the URL, in front of the doors' own
	transport string
	prefix    string // of channels: /bench/<run>
	pollEvery time.Duration
}

// name is a channel's.
func (d *door) name(channel uint16) string { return fmt.Sprintf("%s/%d", d.prefix, channel) }

// get appends a request for what follows the cursor, or for what follows since.
func (d *door) get(out []byte, c *client, since, more string) []byte {
	out = append(append(out, "GET "...), d.path...)
	out = append(append(out, "/channels"...), d.name(c.channel)...)
	out = append(append(out, "?transport="...), d.transport...)
	out = append(out, "&since="...)
	if len(c.cursor) > 0 {
		out = append(out, c.cursor...)
	} else {
		out = append(out, since...)
	}
	return d.rest(append(out, more...))
}

// rest appends what follows the target of a request without a body.
func (d *door) rest(out []byte) []byte {
	out = append(append(out, " HTTP/1.1\r\nHost: "...), d.host...)
	return append(out, "\r\n\r\n"...)
}

// upgrade appends the request for a WebSocket.
func (d *door) upgrade(out []byte, target string) []byte {
	out = append(append(append(out, "GET "...), d.path...), target...)
	out = append(append(out, " HTTP/1.1\r\nHost: "...), d.host...)
	return append(out, "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: Y29tZXQgYmVuY2ggY29tZQ==\r\n\r\n"...)
}
