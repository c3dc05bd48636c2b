package client

import (
	"net/http"
	"slices"
)

// Transport is a way to follow channels.
type Transport struct {
	Name string
	// Held says that the server holds something open for the client, so that it
	// can tell it to go away; else it only answers.
	Held bool
	// Stream says that the response has no end of its own.
	Stream bool
	// Socket says that it is a WebSocket, which HTTP/2 does not carry here.
	Socket bool
	// Bayeux says that it is a transport of /cometd.
	Bayeux bool
	// Script says that data arrives with escapes for scripts.
	Script bool

	follower func(channels []string, since string) follower
}

// Transports returns all of them.
func Transports() []Transport { return append(plainTransports(), bayeuxTransports()...) }

// Named returns the transport of a name; there is one.
func Named(name string) Transport {
	all := Transports()
	return all[slices.IndexFunc(all, func(t Transport) bool { return t.Name == name })]
}

// New returns a client that will follow channels: what comes from when it is
// first opened.
func (t Transport) New(channels ...string) *Client { return t.From("", channels...) }

// From returns a client that begins after a cursor of the plain transports, or
// with "earliest". Bayeux clients take a position.
func (t Transport) From(since string, channels ...string) *Client {
	return &Client{follower: t.follower(channels, since)}
}

func plainTransports() []Transport {
	poll := func(name, callback string) func([]string, string) follower {
		return func(channels []string, since string) follower {
			return &poller{plain: plain{transport: name, channels: channels, since: since}, callback: callback}
		}
	}
	return []Transport{
		{Name: "poll", follower: poll("poll", "")},
		{Name: "long-poll", Held: true, follower: poll("long-poll", "")},
		{Name: "jsonp", Held: true, Script: true, follower: poll("jsonp", "app.news")},
		{Name: "sse", Held: true, Stream: true, follower: func(channels []string, since string) follower {
			return &stream{plain: plain{transport: "sse", channels: channels, since: since}, accept: "text/event-stream", read: readEvents}
		}},
		{Name: "stream", Held: true, Stream: true, follower: func(channels []string, since string) follower {
			return &stream{plain: plain{transport: "stream", channels: channels, since: since}, accept: "application/x-ndjson", read: readLines}
		}},
		{Name: "multipart", Held: true, Stream: true, follower: func(channels []string, since string) follower {
			return &stream{plain: plain{transport: "multipart", channels: channels, since: since}, accept: "multipart/x-mixed-replace", read: readParts}
		}},
		{Name: "frame", Held: true, Stream: true, Script: true, follower: func(channels []string, since string) follower {
			return &stream{plain: plain{transport: "frame", channels: channels, since: since}, accept: "text/html", read: readScripts}
		}},
		{Name: "ws", Held: true, Stream: true, Socket: true, follower: func(channels []string, since string) follower {
			return &plainSocket{plain{transport: "ws", channels: channels, since: since}}
		}},
	}
}

func bayeuxTransports() []Transport {
	over := func(transport string, ack bool, link func(*network) link) func([]string, string) follower {
		return func(channels []string, since string) follower {
			return newBayeux(transport, ack, link, channels, since)
		}
	}
	return []Transport{
		{Name: "long-polling", Held: true, Bayeux: true, follower: over("long-polling", true, func(n *network) link {
			return &exchanges{network: n, method: http.MethodPost}
		})},
		{Name: "callback-polling", Held: true, Bayeux: true, Script: true, follower: over("callback-polling", true, func(n *network) link {
			return &exchanges{network: n, method: http.MethodGet}
		})},
		// As most clients use it: events are pushed.
		{Name: "websocket", Held: true, Stream: true, Bayeux: true, Socket: true, follower: over("websocket", false, newSocketLink)},
		// With the ack extension events come with the answers of connects.
		{Name: "websocket-ack", Held: true, Bayeux: true, Socket: true, follower: over("websocket", true, newSocketLink)},
	}
}
