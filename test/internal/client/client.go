// Package client follows channels over every transport of Comet, on sockets
// that it can break. It is what tests speak to edges with; it shares no code
// with the server, so that both cannot be wrong alike.
//
//  1. A client keeps nothing that its owner has not taken by Next: what it
//     resumes from is what the owner has seen.
//  2. While the owner takes nothing, the client reads nothing (a few kilobytes
//     of buffers aside), as a slow reader does.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Kind says what an event is.
type Kind string

// The kinds.
const (
	Opened    Kind = "open"
	Message   Kind = "message"
	Heartbeat Kind = "heartbeat" // also: a held request that was answered without news
	Cursor    Kind = "cursor"
	Resync    Kind = "resync"
	End       Kind = "end" // for Bayeux: the advice to go away
)

// Ping is the reason of a heartbeat that is a ping of a WebSocket.
const Ping = "ping"

// Event is one thing that a client was told.
type Event struct {
	Kind     Kind
	Channel  string
	Position uint64 // of a message; 0 if the transport does not say
	Data     json.RawMessage
	Channels []string      // of a resync
	Reason   string        // of an end, or Ping
	Retry    time.Duration // of an end
	Cursor   string
}

// StatusError is a refusal by HTTP status.
type StatusError struct {
	Status int
	Reason string // of the problem document
	Retry  time.Duration
	Body   string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %.300s", e.Status, e.Body) }

// CloseError is the end of a WebSocket by a closing frame.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("closed with %d %s", e.Code, e.Reason) }

// ErrStopped is what Next returns after Cut or Close.
var ErrStopped = errors.New("the client was stopped")

// follower is a transport: it connects, emits Opened, then what comes, and
// returns when the connection is over. It keeps where to resume; emit returns
// an error if the owner has not taken the event.
type follower interface {
	follow(ctx context.Context, n *network, emit func(Event) error) error
	// forget drops what does not survive a change of the server.
	forget()
}

// Client follows channels. Its methods are for one goroutine, but for Cut.
type Client struct {
	// SmallBuffers makes the kernel keep as little as it can for this client;
	// set before Open.
	SmallBuffers bool

	follower follower
	server   Server
	network  *network
	stop     context.CancelFunc
	events   chan Event
	done     chan struct{} // closed when the follower has ended
	err      error         // how; read after done
}

// Open connects to a server, and returns when it has taken the request: what
// is published from now on will come. Opened again, the client goes on after
// what its owner has seen.
func (c *Client) Open(ctx context.Context, s Server) error {
	c.halt(false)
	if c.server.URL != "" && c.server.URL != s.URL {
		c.follower.forget()
	}
	c.server = s
	c.network = newNetwork(s, c.SmallBuffers)
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop, c.events, c.done = stop, make(chan Event), make(chan struct{})
	go func(events chan<- Event, done chan<- struct{}, n *network) {
		defer close(done)
		c.err = c.follower.follow(following, n, func(e Event) error {
			select {
			case events <- e:
				return nil
			case <-following.Done():
				return ErrStopped
			}
		})
		if following.Err() != nil {
			c.err = ErrStopped
		}
	}(c.events, c.done, c.network)
	first, err := c.Next(ctx)
	for err == nil && first.Kind == Heartbeat && first.Reason == Ping { // the server took longer than that
		first, err = c.Next(ctx)
	}
	if err == nil && first.Kind != Opened {
		err = fmt.Errorf("the first event is %+v", first)
	}
	if err != nil {
		c.halt(true)
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// Next returns what comes next. After the connection's end it returns why it
// ended: io.EOF if the server ended it in order.
func (c *Client) Next(ctx context.Context) (Event, error) {
	if c.done == nil {
		return Event{}, ErrStopped
	}
	select {
	case e := <-c.events:
		return e, nil
	case <-c.done:
		if c.err == nil {
			return Event{}, io.EOF
		}
		return Event{}, c.err
	case <-ctx.Done():
		return Event{}, ctx.Err()
	}
}

// Cut breaks the connections: the server gets a reset, and what was not taken
// is gone. It may be called while Next waits.
func (c *Client) Cut() { c.halt(true) }

// Forget drops the session of a Bayeux client, between Cut and Open: the next
// one begins after what was seen.
func (c *Client) Forget() { c.follower.forget() }

// Close ends the connections in order. A Bayeux session is left to expire.
func (c *Client) Close() { c.halt(false) }

// halt ends the follower and waits for it.
func (c *Client) halt(reset bool) {
	if c.done == nil {
		return
	}
	if reset {
		c.network.reset()
	}
	c.stop()
	c.network.close()
	<-c.done
}
