package comettest

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Record is one thing a client was told, or did.
type Record struct {
	// Reply numbers what came at once: HTTP replies, frames of a WebSocket,
	// objects of a stream.
	Reply int
	At    time.Time
	Kind  Kind
	// Channel is that of an event, or what a resync or subscribed names.
	Channel string
	// N is the number a Publisher gave the event.
	N int
	// Position is where the event stands. Bayeux clients do not know.
	Position uint64
	// Cursor is what a plain client was told with it, or asked with.
	Cursor string
	// Data is what is told of a roster, on channels under /presence.
	Data string
	// Detail says what a breach is.
	Detail string
}

// Kind is what a record is.
type Kind string

// The kinds of records.
const (
	Event      Kind = "event"
	Resync     Kind = "resync"
	Subscribed Kind = "subscribed" // a plain client: a first answer came
	Session    Kind = "session"    // a handshake was answered
	Refused    Kind = "refused"    // a subscribe was; the client makes a new session
	Away       Kind = "away"       // a connect was answered with a pause to make
	Asked      Kind = "asked"      // a plain request was sent, with the cursor
	Passed     Kind = "passed"     // everything up to the cursor was sent
	Ended      Kind = "ended"      // the server ended a plain stream, or answered that it leaves
	Cut        Kind = "cut"        // a request was not answered, or a stream broke
	Breach     Kind = "breach"     // what came is against the protocol
	Left       Kind = "left"       // the client left
)

// Transport is how a client is connected.
type Transport string

// The transports.
const (
	LongPolling Transport = "long-polling" // of Bayeux, like the next
	WebSocket   Transport = "websocket"
	LongPoll    Transport = "long-poll" // of plain channels, like the next
	SSE         Transport = "sse"
	Stream      Transport = "stream"
	PlainSocket Transport = "ws"
)

// plain reports whether a transport is one of plain channels.
func (t Transport) plain() bool { return t != LongPolling && t != WebSocket }

// Profile says what a client is.
type Profile struct {
	Name string
	// Transport is LongPolling if it is not given. With Ack a Bayeux client
	// acknowledges what it got.
	Transport Transport
	Ack       bool
	// Edges are those that it knows; it uses the first until that sends it away
	// or cannot be reached, then the next. With Roams it sends every request to
	// the next, as a balancer does that knows nothing of sessions.
	Edges []string
	Roams bool
	// Repeats is how long ago what comes again may have come, because an edge
	// dies and its sessions go on from their records.
	Repeats time.Duration
	// Channels are what it subscribes to, Enlisted what a backend subscribes it to.
	Channels []string
	Enlisted []string
}

// Client is a client that does what servers advise, goes on where it was after
// whatever happens, and writes down what it receives.
type Client struct {
	Profile

	net     *Network
	http    *http.Client
	dial    func(ctx context.Context, addr string) (net.Conn, error)
	speaker speaker
	stop    context.CancelFunc // of the present life
	done    chan struct{}

	mu      sync.Mutex
	at      int // of Edges
	id      string
	replies int
	history []Record
}

// speaker is a transport.
type speaker interface {
	// speak connects, and returns once the connection is lost and it is time to
	// connect again.
	speak(ctx context.Context)
	// goodbye takes leave of the server.
	goodbye(ctx context.Context)
}

// Client starts a long-polling client of one edge; see Connect.
func (c *Cluster) Client(name, edge string, channels ...string) *Client {
	c.t.Helper()
	return c.Connect(Profile{Name: name, Edges: []string{edge}, Channels: channels})
}

// Connect starts a client on a host of its own: it connects to an edge,
// subscribes to the channels, and stays subscribed until the test ends or it
// leaves. Connect returns once the first subscription is confirmed.
func (c *Cluster) Connect(p Profile) *Client {
	c.t.Helper()
	if p.Transport == "" {
		p.Transport = LongPolling
	}
	client := &Client{Profile: p, net: c.Net, dial: c.Net.Dial(p.Name), http: c.HTTP(p.Name)}
	client.http.Timeout = 0 // speakers know how long an answer may take
	if p.Transport.plain() {
		client.speaker = newPlain(client)
	} else {
		client.speaker = newSession(client)
	}
	client.Return()
	c.t.Cleanup(client.Stop)
	for deadline := time.Now().Add(time.Minute); len(client.Of(Subscribed)) < len(p.Channels); {
		if time.Now().After(deadline) {
			c.t.Fatalf("client %s: not subscribed after a minute: %v", p.Name, client.History())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return client
}

// Return starts a client that left: it goes on where it was.
func (c *Client) Return() {
	ctx, stop := context.WithCancel(context.Background())
	c.stop, c.done = stop, make(chan struct{})
	go func(done chan<- struct{}) {
		defer close(done)
		for ctx.Err() == nil {
			c.speaker.speak(ctx)
		}
	}(c.done)
}

// Stop closes the client's connections without a word.
func (c *Client) Stop() {
	c.stop()
	<-c.done
	c.http.CloseIdleConnections()
	c.leave()
}

// Leave takes leave of the server.
func (c *Client) Leave() {
	c.stop()
	<-c.done
	ctx, cancel := context.WithTimeout(context.Background(), networkDelay)
	defer cancel()
	c.speaker.goodbye(ctx)
	c.Stop()
}

// Vanish ends the client without any sign on the network.
func (c *Client) Vanish() {
	c.net.Vanish(c.Name)
	c.Stop()
}

// Cut resets the client's connections, which it has to do without for a moment.
func (c *Client) Cut() {
	for _, edge := range c.Edges {
		c.net.Cut(c.Name, edge)
	}
}

// Enlist says that the client was subscribed to what it is to be Enlisted to.
func (c *Client) Enlist() {
	for _, channel := range c.Enlisted {
		c.record(Record{Kind: Subscribed, Channel: channel})
	}
}

// Move makes the client use another edge from now on.
func (c *Client) Move() {
	c.elsewhere()
	c.Cut()
}

// History returns what the client was told so far.
func (c *Client) History() []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.history)
}

// Of returns the records of a kind.
func (c *Client) Of(k Kind) []Record {
	return slices.DeleteFunc(c.History(), func(r Record) bool { return r.Kind != k })
}

// ID returns the present clientId.
func (c *Client) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

func (c *Client) setID(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.id = id
}

// edge is the one that the client uses.
func (c *Client) edge() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Edges[c.at%len(c.Edges)] + ":8080"
}

// elsewhere chooses the next edge.
func (c *Client) elsewhere() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at++
}

// reply begins to record what comes next.
func (c *Client) reply() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replies++
}

func (c *Client) record(r Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Reply, r.At = c.replies, time.Now()
	c.history = append(c.history, r)
}

// cut records that a connection was lost, unless the client wanted it.
func (c *Client) cut(ctx context.Context) {
	if ctx.Err() == nil {
		c.record(Record{Kind: Cut})
	}
}

// breach records that the server does not keep to the protocol.
func (c *Client) breach(err error) { c.record(Record{Kind: Breach, Detail: err.Error()}) }

func (c *Client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.history); n == 0 || c.history[n-1].Kind != Left {
		c.history = append(c.history, Record{Reply: c.replies, At: time.Now(), Kind: Left})
	}
}

const (
	// pause is what a client waits before it connects again, if nobody says.
	pause = time.Second
	// networkDelay is how much later than it may an answer comes.
	networkDelay = 10 * time.Second
)

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
