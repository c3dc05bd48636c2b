package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// bayeux is a Bayeux client with the replay extension, so that a session that
// is lost loses no messages.
type bayeux struct {
	transport string // as handshakes and connects name it
	ack       bool
	newLink   func(*network) link
	channels  []string

	clientID string
	failed   bool             // the last connection broke: the next connect is to be answered at once
	batch    int64            // the newest whole one that was taken
	last     map[string]int64 // what to replay after
	number   int              // of the newest message
	events   int              // that have come
}

// link carries messages. A server's answers may come in any number of arrays.
type link interface {
	open(ctx context.Context) error
	send(ctx context.Context, messages []byte) error
	receive(ctx context.Context) ([]message, error)
	close()
}

// message is one from the server.
type message struct {
	Channel    string          `json:"channel"`
	ID         string          `json:"id"`
	ClientID   string          `json:"clientId"`
	Successful *bool           `json:"successful"`
	Error      string          `json:"error"`
	Data       json.RawMessage `json:"data"`
	Advice     *struct {
		Reconnect string `json:"reconnect"`
		Interval  int64  `json:"interval"`
		Multiple  bool   `json:"multiple-clients"`
	} `json:"advice"`
	Ext struct {
		Ack    json.RawMessage `json:"ack"`
		Replay json.RawMessage `json:"replay"`
		Comet  struct {
			Resync []string `json:"resync"`
		} `json:"comet"`
	} `json:"ext"`
	beat bool // made up: a ping of a WebSocket
}

func (m *message) ok() bool { return m.Successful != nil && *m.Successful }

// interval is the pause that the server asks for.
func (m *message) interval() time.Duration {
	if m.Advice == nil {
		return 0
	}
	return time.Duration(m.Advice.Interval) * time.Millisecond
}

// refusal is a reply that is not as it has to be.
type refusal struct {
	to    string
	reply *message
}

func (r *refusal) Error() string { return fmt.Sprintf("%s: %+v", r.to, r.reply) }

// errUnknown means that the server knows no such session.
var errUnknown = errors.New("the session is unknown")

const retained = -2 // replays all that is retained

func newBayeux(transport string, ack bool, newLink func(*network) link, channels []string, since string) *bayeux {
	b := &bayeux{transport: transport, ack: ack, newLink: newLink, channels: channels, last: map[string]int64{}}
	for _, channel := range channels {
		if strings.Contains(channel, "*") {
			continue // patterns have no history
		}
		b.last[channel] = retained
		if position, err := strconv.ParseInt(since, 10, 64); err == nil {
			b.last[channel] = position
		}
	}
	return b
}

// forget implements follower: a session lives on one edge.
func (b *bayeux) forget() { b.clientID = "" }

// follow implements follower.
func (b *bayeux) follow(ctx context.Context, n *network, emit func(Event) error) error {
	l := b.newLink(n)
	if err := l.open(ctx); err != nil {
		return err
	}
	defer l.close()
	if !b.ack {
		b.clientID = "" // what was on its way is lost without the extension, so replay it
	}
	if b.clientID == "" {
		if err := b.begin(ctx, l, emit); err != nil {
			return err
		}
	} else if err := emit(Event{Kind: Opened}); err != nil {
		return err
	}
	for {
		left, err := b.connect(ctx, l, emit)
		if errors.Is(err, errUnknown) {
			err = b.begin(ctx, l, emit)
		}
		if status, ok := errors.AsType[*StatusError](err); ok && strings.Contains(status.Body, "replaced by a newer one") {
			// A connect that was cut off was served after this one, as the newer;
			// clients poll again.
			b.failed = true
			continue
		}
		if refused, ok := errors.AsType[*refusal](err); ok && strings.HasPrefix(refused.reply.Error, "503:") {
			err = emit(Event{Kind: End, Reason: "draining", Retry: refused.reply.interval()})
			left = true
		}
		if err != nil || left {
			b.failed = true
			return err
		}
	}
}

// begin makes a session and subscribes.
func (b *bayeux) begin(ctx context.Context, l link, emit func(Event) error) error {
	ext := map[string]any{"replay": true}
	if b.ack {
		ext["ack"] = true
	}
	b.clientID, b.batch, b.failed = "", 0, false
	reply, err := b.request(ctx, l, emit, map[string]any{
		"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []string{b.transport}, "ext": ext,
	})
	if err != nil {
		return err
	}
	if !reply.ok() || reply.ClientID == "" || string(reply.Ext.Replay) != "true" || b.ack != (string(reply.Ext.Ack) == "true") {
		return &refusal{"handshake", reply}
	}
	b.clientID = reply.ClientID
	// The owner hears first that all is subscribed.
	early := []Event{{Kind: Opened}}
	for _, channel := range b.channels {
		err := b.subscribe(ctx, l, channel, func(e Event) error {
			early = append(early, e)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, e := range early {
		if err := b.hand(e, emit); err != nil {
			return err
		}
	}
	return nil
}

// subscribe subscribes to a channel after what was seen of it. If that is
// gone, it says so and goes on with what is retained.
func (b *bayeux) subscribe(ctx context.Context, l link, channel string, emit func(Event) error) error {
	since := maps.Clone(b.last)
	for {
		reply, err := b.exchange(ctx, l, emit, map[string]any{
			"channel": "/meta/subscribe", "subscription": channel,
			"ext": map[string]any{"replay": since},
		})
		switch {
		case err != nil:
			return err
		case reply.ok():
			return nil
		case reply.Error != "400:"+channel+":replay_lost" || since[channel] == retained:
			return fmt.Errorf("subscribe to %s: %s", channel, reply.Error)
		}
		if err := emit(Event{Kind: Resync, Channels: []string{channel}}); err != nil {
			return err
		}
		since[channel] = retained
	}
}

// connect polls once. left says that the server wants the client to leave.
func (b *bayeux) connect(ctx context.Context, l link, emit func(Event) error) (left bool, err error) {
	request := map[string]any{"channel": "/meta/connect", "connectionType": b.transport}
	if b.ack {
		request["ext"] = map[string]any{"ack": b.batch}
	}
	if b.failed {
		request["advice"] = map[string]any{"timeout": 0}
		b.failed = false
	}
	before := b.events
	reply, err := b.request(ctx, l, emit, request)
	if err != nil {
		return false, err
	}
	if !reply.ok() {
		if reply.Advice != nil && reply.Advice.Reconnect == "handshake" {
			select {
			case <-time.After(reply.interval()):
				return false, errUnknown
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		return false, &refusal{"connect", reply}
	}
	if b.ack {
		if err := json.Unmarshal(reply.Ext.Ack, &b.batch); err != nil {
			return false, fmt.Errorf("the ack of a connect: %w", err)
		}
	}
	if a := reply.Advice; a != nil && a.Reconnect == "retry" && a.Interval > 0 && !a.Multiple {
		return true, emit(Event{Kind: End, Reason: "draining", Retry: reply.interval()})
	}
	if len(reply.Ext.Comet.Resync) == 0 && before == b.events {
		return false, emit(Event{Kind: Heartbeat})
	}
	return false, nil
}

// request is exchange for a client whose owner listens.
func (b *bayeux) request(ctx context.Context, l link, emit func(Event) error, m map[string]any) (*message, error) {
	return b.exchange(ctx, l, func(e Event) error { return b.hand(e, emit) }, m)
}

// hand hands an event to the owner and notes it.
func (b *bayeux) hand(e Event, emit func(Event) error) error {
	if err := emit(e); err != nil {
		return err
	}
	if last, ok := b.last[e.Channel]; ok && e.Kind == Message {
		b.last[e.Channel] = max(last, int64(e.Position))
	}
	return nil
}

// exchange sends a message, and handles what comes until its reply, which it
// returns.
func (b *bayeux) exchange(ctx context.Context, l link, emit func(Event) error, m map[string]any) (*message, error) {
	b.number++
	id := strconv.Itoa(b.number)
	m["id"] = id
	if b.clientID != "" {
		m["clientId"] = b.clientID
	}
	raw, err := json.Marshal([]any{m})
	if err != nil {
		return nil, err
	}
	sent := l.send(ctx, raw)
	for {
		// What the server said before it closed can be read still.
		messages, err := l.receive(ctx)
		if err != nil {
			return nil, errors.Join(err, sent)
		}
		var reply *message
		for i := range messages {
			got := &messages[i]
			if got.Successful != nil {
				if got.ID != id {
					return nil, fmt.Errorf("a reply to %s while %s is asked: %+v", got.ID, id, got)
				}
				reply = got
				continue
			}
			if err := b.event(got, emit); err != nil {
				return nil, err
			}
		}
		if reply == nil {
			continue
		}
		if channels := reply.Ext.Comet.Resync; len(channels) > 0 {
			if err := emit(Event{Kind: Resync, Channels: channels}); err != nil {
				return nil, err
			}
		}
		return reply, nil
	}
}

// event hands over what is no reply.
func (b *bayeux) event(m *message, emit func(Event) error) error {
	if m.beat {
		return emit(Event{Kind: Heartbeat, Reason: Ping})
	}
	if m.Data == nil || m.ClientID != "" || m.ID != "" {
		return fmt.Errorf("not an event: %+v", m)
	}
	var replay struct{ ID int64 }
	if err := json.Unmarshal(m.Ext.Replay, &replay); err != nil {
		return fmt.Errorf("the replay id of an event: %w", err)
	}
	b.events++
	return emit(Event{Kind: Message, Channel: m.Channel, Position: uint64(replay.ID), Data: m.Data})
}
