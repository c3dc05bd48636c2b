package comettest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Record is one thing a client was told.
type Record struct {
	// Reply numbers the HTTP replies of the client.
	Reply int
	At    time.Time
	Kind  Kind
	// Channel is that of an event, or what a resync or subscribed names.
	Channel string
	// N is the number a Publisher gave the event.
	N int
}

// Kind is what a record is.
type Kind string

// The kinds of records.
const (
	Event      Kind = "event"
	Resync     Kind = "resync"
	Subscribed Kind = "subscribed"
	Session    Kind = "session" // a handshake was answered
	Refused    Kind = "refused" // a subscribe was; the client makes a new session
	Cut        Kind = "cut"     // a request was not answered
)

// Client is a Bayeux client over long-polling that does what servers advise and
// writes down what it receives.
type Client struct {
	Name string

	url      string
	http     *http.Client
	channels []string
	stop     context.CancelFunc
	done     chan struct{}

	mu      sync.Mutex
	id      string
	replies int
	history []Record
}

// message is what the client understands of Bayeux.
type message struct {
	Channel      string          `json:"channel"`
	ClientID     string          `json:"clientId,omitempty"`
	Successful   *bool           `json:"successful"`
	Subscription json.RawMessage `json:"subscription"`
	Error        string          `json:"error"`
	Data         json.RawMessage `json:"data"`
	Advice       *struct {
		Reconnect string `json:"reconnect"`
		Interval  int64  `json:"interval"`
	} `json:"advice"`
	Ext struct {
		Comet struct {
			Resync []string `json:"resync"`
		} `json:"comet"`
	} `json:"ext"`
}

func (m *message) ok() bool { return m.Successful != nil && *m.Successful }

// Client starts a client on a host of its own: it connects to an edge,
// subscribes to the channels, and stays subscribed until the test ends or Stop.
// It returns once the first subscription is confirmed.
func (c *Cluster) Client(name, edge string, channels ...string) *Client {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	client := &Client{
		Name: name, url: "http://" + edge + ":8080/cometd", http: c.HTTP(name), channels: channels,
		stop: stop, done: make(chan struct{}),
	}
	go func() {
		defer close(client.done)
		client.live(ctx)
	}()
	c.t.Cleanup(client.Stop)
	for deadline := time.Now().Add(time.Minute); len(client.Of(Subscribed)) < len(channels); {
		if time.Now().After(deadline) {
			c.t.Fatalf("client %s: not subscribed after a minute: %v", name, client.History())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return client
}

// Stop ends the client without a word to the server.
func (c *Client) Stop() {
	c.stop()
	<-c.done
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

// live keeps a session.
func (c *Client) live(ctx context.Context) {
	for ctx.Err() == nil {
		if !c.handshake(ctx) || !c.subscribe(ctx) {
			wait(ctx, time.Second)
			continue
		}
		for ctx.Err() == nil && c.connect(ctx) {
		}
	}
}

func (c *Client) handshake(ctx context.Context) bool {
	for _, m := range c.send(ctx, map[string]any{
		"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []string{"long-polling"},
	}) {
		if m.Channel == "/meta/handshake" && m.ok() {
			c.mu.Lock()
			c.id = m.ClientID
			c.mu.Unlock()
			c.record(Session, "")
			return true
		}
	}
	return false
}

func (c *Client) subscribe(ctx context.Context) bool {
	if len(c.channels) == 0 {
		return true
	}
	for _, m := range c.send(ctx, map[string]any{
		"channel": "/meta/subscribe", "clientId": c.ID(), "subscription": c.channels,
	}) {
		if m.Channel == "/meta/subscribe" && m.ok() {
			for _, channel := range c.channels {
				c.record(Subscribed, channel)
			}
			return true
		}
	}
	c.record(Refused, "")
	return false
}

// connect sends one connect; false asks for a new session.
func (c *Client) connect(ctx context.Context) bool {
	for _, m := range c.send(ctx, map[string]any{
		"channel": "/meta/connect", "clientId": c.ID(), "connectionType": "long-polling",
	}) {
		if m.Channel != "/meta/connect" {
			continue
		}
		if m.Advice != nil {
			if m.Advice.Reconnect == "handshake" || m.Advice.Reconnect == "none" {
				return false
			}
			wait(ctx, time.Duration(m.Advice.Interval)*time.Millisecond)
		}
		return true
	}
	wait(ctx, time.Second) // no answer: try again
	return true
}

// send sends one message, records what the reply holds besides the answer, and
// returns the reply's messages; none if it failed.
func (c *Client) send(ctx context.Context, m map[string]any) []message {
	reply, err := c.exchange(ctx, m)
	c.mu.Lock()
	c.replies++
	c.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			c.record(Cut, "")
		}
		return nil
	}
	for _, m := range reply {
		for _, channel := range m.Ext.Comet.Resync {
			c.record(Resync, channel)
		}
		if m.Successful == nil && m.Data != nil {
			var data struct{ N int }
			_ = json.Unmarshal(m.Data, &data) // not a Publisher's: 0
			c.recordN(Event, m.Channel, data.N)
		}
	}
	return reply
}

func (c *Client) exchange(ctx context.Context, m map[string]any) (reply []message, err error) {
	body, err := json.Marshal([]any{m})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, text)
	}
	return reply, json.Unmarshal(text, &reply)
}

func (c *Client) record(k Kind, channel string) { c.recordN(k, channel, 0) }

func (c *Client) recordN(k Kind, channel string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = append(c.history, Record{Reply: c.replies, At: time.Now(), Kind: k, Channel: channel, N: n})
}

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
