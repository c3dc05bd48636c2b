package comettest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// session is a client with a session, which it keeps as long as the server does.
// What its owner asks for is done by one goroutine.
type session struct {
	*Client

	carrier carrier
	timeout time.Duration // how long the server holds a connect
	failed  bool          // the last connect was not answered: the next is to be at once
	batch   int64         // the newest that came
}

// carrier carries messages to the server and back.
type carrier interface {
	open(ctx context.Context) error
	// exchange sends a message and hands over what comes, until it is answered.
	exchange(ctx context.Context, text []byte, take func([]message) (answered bool)) error
	// wait lets time pass, and hands over what comes.
	wait(ctx context.Context, d time.Duration, take func([]message))
	close()
}

// message is what the client understands of Bayeux.
type message struct {
	Channel    string          `json:"channel"`
	ClientID   string          `json:"clientId"`
	Successful *bool           `json:"successful"`
	Data       json.RawMessage `json:"data"`
	Advice     *struct {
		Reconnect string `json:"reconnect"`
		Interval  int64  `json:"interval"`
		Timeout   int64  `json:"timeout"`
	} `json:"advice"`
	Ext struct {
		Ack   json.RawMessage `json:"ack"`
		Comet struct {
			Resync []string `json:"resync"`
		} `json:"comet"`
	} `json:"ext"`
}

func (m *message) ok() bool { return m.Successful != nil && *m.Successful }

// interval is the pause that the server asks for; d if it does not say.
func (m *message) interval(d time.Duration) time.Duration {
	if m == nil || m.Advice == nil {
		return d
	}
	return time.Duration(m.Advice.Interval) * time.Millisecond
}

func newSession(c *Client) *session {
	b := &session{Client: c, timeout: time.Minute}
	if c.Transport == WebSocket {
		b.carrier = &socketCarrier{client: c}
	} else {
		b.carrier = (*pollingCarrier)(c)
	}
	return b
}

// speak implements [speaker].
func (b *session) speak(ctx context.Context) {
	if err := b.carrier.open(ctx); err != nil {
		b.lost(ctx)
		return
	}
	defer b.carrier.close()
	for alive := true; alive && ctx.Err() == nil; {
		if b.ID() == "" {
			alive = b.begin(ctx)
		} else {
			alive = b.connect(ctx)
		}
	}
}

// lost notes that the server did not answer. It may do so if it is asked once
// more, but not for ever.
func (b *session) lost(ctx context.Context) {
	b.cut(ctx)
	if b.failed || b.ID() == "" {
		b.elsewhere()
	}
	b.failed = true
	wait(ctx, pause)
}

// begin makes a session and subscribes. Like connect it reports whether the
// carrier is of use.
func (b *session) begin(ctx context.Context) bool {
	hello := map[string]any{
		"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []Transport{b.Transport},
	}
	if b.Ack {
		hello["ext"] = map[string]any{"ack": true}
	}
	reply, err := b.send(ctx, hello)
	switch {
	case err != nil:
		b.lost(ctx)
		return false
	case !reply.ok():
		wait(ctx, reply.interval(pause))
		return true
	}
	b.setID(reply.ClientID)
	b.batch, b.failed = 0, false
	if reply.Advice != nil {
		b.timeout = time.Duration(reply.Advice.Timeout) * time.Millisecond
	}
	b.record(Record{Kind: Session})
	return b.subscribe(ctx)
}

func (b *session) subscribe(ctx context.Context) bool {
	if len(b.Channels) == 0 {
		return true
	}
	reply, err := b.send(ctx, map[string]any{
		"channel": "/meta/subscribe", "clientId": b.ID(), "subscription": b.Channels,
	})
	switch {
	case err != nil:
		b.setID("") // nobody knows what became of it
		b.lost(ctx)
		return false
	case !reply.ok():
		b.record(Record{Kind: Refused})
		b.setID("")
		wait(ctx, reply.interval(pause))
		return true
	}
	for _, channel := range b.Channels {
		b.record(Record{Kind: Subscribed, Channel: channel})
	}
	return true
}

func (b *session) connect(ctx context.Context) bool {
	m := map[string]any{"channel": "/meta/connect", "clientId": b.ID(), "connectionType": b.Transport}
	if b.Ack {
		m["ext"] = map[string]any{"ack": b.batch}
	}
	if b.failed {
		m["advice"] = map[string]any{"timeout": 0}
	}
	reply, err := b.send(ctx, m)
	if err != nil {
		b.lost(ctx)
		return false
	}
	b.failed = false
	if b.Ack && reply.ok() {
		if err := json.Unmarshal(reply.Ext.Ack, &b.batch); err != nil {
			b.breach(fmt.Errorf("the ack of a connect: %w", err))
		}
	}
	rest := reply.interval(0)
	if rest > 0 {
		b.record(Record{Kind: Away})
	}
	if reply.Advice != nil && (reply.Advice.Reconnect == "handshake" || reply.Advice.Reconnect == "none") {
		b.setID("")
	}
	b.carrier.wait(ctx, rest, func(messages []message) {
		b.reply()
		for i := range messages {
			b.take(&messages[i])
		}
	})
	return true
}

// goodbye implements [speaker].
func (b *session) goodbye(ctx context.Context) {
	if b.ID() == "" || b.carrier.open(ctx) != nil {
		return
	}
	defer b.carrier.close()
	if _, err := b.send(ctx, map[string]any{"channel": "/meta/disconnect", "clientId": b.ID()}); err == nil {
		b.setID("")
	}
}

// send sends one message, records what comes, and returns the answer.
func (b *session) send(ctx context.Context, m map[string]any) (answer *message, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout+networkDelay)
	defer cancel()
	text, err := json.Marshal([]any{m})
	if err != nil {
		return nil, err
	}
	err = b.carrier.exchange(ctx, text, func(messages []message) bool {
		b.reply()
		for i := range messages {
			if it := &messages[i]; it.Successful != nil && it.Channel == m["channel"] {
				answer = it
			}
			b.take(&messages[i])
		}
		return answer != nil
	})
	if err == nil && answer == nil {
		err = errors.New("a reply without an answer")
	}
	return answer, err
}

func (b *session) take(m *message) {
	for _, channel := range m.Ext.Comet.Resync {
		b.record(Record{Kind: Resync, Channel: channel})
	}
	if m.Successful != nil || m.Data == nil {
		return
	}
	if _, roster := bayeux.RosterOf(m.Channel); roster {
		b.record(Record{Kind: Event, Channel: m.Channel, Data: string(m.Data)})
		return
	}
	b.record(Record{Kind: Event, Channel: m.Channel, N: numberOf(m.Data)})
}

// numberOf is the number that a Publisher gave its message, 0 if it is not one.
func numberOf(data []byte) int {
	var numbered struct{ N int }
	_ = json.Unmarshal(data, &numbered)
	return numbered.N
}

// pollingCarrier is the carrier of long-polling: each message is a request.
type pollingCarrier Client

func (*pollingCarrier) open(context.Context) error { return nil }
func (*pollingCarrier) close()                     {}

func (*pollingCarrier) wait(ctx context.Context, d time.Duration, _ func([]message)) { wait(ctx, d) }

func (l *pollingCarrier) exchange(ctx context.Context, text []byte, take func([]message) bool) error {
	c := (*Client)(l)
	if c.Roams {
		defer c.elsewhere()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.edge()+"/cometd", bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	var messages []message
	if err := json.Unmarshal(body, &messages); err != nil {
		return err
	}
	take(messages)
	if resp.Close && !c.Roams { // the next connection is another edge's, as a balancer has it
		c.elsewhere()
	}
	return nil
}
