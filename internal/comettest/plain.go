package comettest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// plain is a client of plain channels. Where it goes on is all that it keeps.
type plain struct {
	*Client

	since     string
	opened    bool          // a first answer has come, once
	retry     time.Duration // what the server asked to wait, 0: nothing
	ended     bool          // the server has ended the stream
	heartbeat time.Duration // what the server promised
}

// object is all that the server says.
type object struct {
	Type      string          `json:"type"`
	Channel   string          `json:"channel"`
	Position  uint64          `json:"position"`
	Data      json.RawMessage `json:"data"`
	Cursor    string          `json:"cursor"`
	Channels  []string        `json:"channels"`
	Heartbeat int             `json:"heartbeat"` // seconds
	Retry     int64           `json:"retry"`     // milliseconds
	// Of batches.
	Messages []object `json:"messages"`
	Resync   []string `json:"resync"`
	End      string   `json:"end"`
}

func newPlain(c *Client) *plain { return &plain{Client: c, heartbeat: time.Minute} }

// scalar reports whether positions are cursors.
func scalar(channels []string) bool { return len(channels) == 1 && !bayeux.IsPattern(channels[0]) }

// speak implements [speaker].
func (p *plain) speak(ctx context.Context) {
	p.retry, p.ended = 0, false
	p.record(Record{Kind: Asked, Cursor: p.since})
	var err error
	switch p.Transport {
	case LongPoll:
		err = p.poll(ctx)
	case PlainSocket:
		err = p.socket(ctx)
	default:
		err = p.stream(ctx)
	}
	switch {
	case p.ended:
		p.elsewhere()
		wait(ctx, p.retry)
	case err != nil:
		p.cut(ctx)
		p.elsewhere()
		wait(ctx, pause)
	}
}

// goodbye implements [speaker]: there is nothing to say.
func (*plain) goodbye(context.Context) {}

// path is what is asked for.
func (p *plain) path(more url.Values) string {
	query := url.Values{"transport": {string(p.Transport)}, "channel": p.Channels}
	maps.Copy(query, more)
	if p.since != "" && p.Transport != SSE {
		query.Set("since", p.since)
	}
	return "/channels?" + query.Encode()
}

// get returns the answer to a request, if it was not refused.
func (p *plain) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.edge()+path, nil)
	if err != nil {
		return nil, err
	}
	if p.since != "" && p.Transport == SSE {
		req.Header.Set("Last-Event-ID", p.since)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		text, _ := io.ReadAll(resp.Body) // it adds to an error
		return nil, fmt.Errorf("%s: %s", resp.Status, text)
	}
	return resp, nil
}

// poll sends one long-poll.
func (p *plain) poll(ctx context.Context) error {
	query := url.Values{}
	if p.since == "" {
		query.Set("wait", "0") // the first answer says where to begin
	}
	resp, err := p.get(ctx, p.path(query))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var batch object
	if err := json.Unmarshal(body, &batch); err != nil {
		p.breach(err)
	}
	p.reply()
	p.lose(batch.Resync, batch.Cursor)
	for i := range batch.Messages {
		p.event(&batch.Messages[i])
	}
	p.pass(batch.Cursor)
	if batch.End != "" {
		p.end(&batch)
	}
	return nil
}

// stream reads one stream.
func (p *plain) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(networkDelay, cancel)
	defer silence.Stop()
	resp, err := p.get(ctx, p.path(nil))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	in, next := bufio.NewReader(resp.Body), nextLine
	if p.Transport == SSE {
		next = nextEvent
	}
	for !p.ended {
		text, id, err := next(in)
		if err != nil {
			return err
		}
		before := p.since
		p.take(text)
		if moved := p.since != before; p.Transport == SSE && (id != "" || moved) && id != p.since {
			p.breach(fmt.Errorf("the id is %q where one goes on at %q", id, p.since))
		}
		silence.Reset(2 * p.heartbeat)
	}
	return nil
}

// socket reads one WebSocket.
func (p *plain) socket(ctx context.Context) error {
	s, err := p.dialSocket(ctx, p.path(nil))
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	for !p.ended {
		text, err := s.receive(2 * p.heartbeat)
		if err != nil {
			return err
		}
		p.take(text)
	}
	return nil
}

// take records one object of a stream.
func (p *plain) take(text []byte) {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		p.breach(fmt.Errorf("%w: %s", err, text))
	}
	p.reply()
	switch o.Type {
	case "":
		p.event(&o)
	case "open":
		p.heartbeat = time.Duration(o.Heartbeat) * time.Second
		p.pass(o.Cursor)
	case "cursor", "heartbeat":
		p.pass(o.Cursor)
	case "resync":
		p.lose(o.Channels, o.Cursor)
		p.pass(o.Cursor)
	case "end":
		p.end(&o)
	default:
		p.breach(fmt.Errorf("an object of type %q", o.Type))
	}
}

func (p *plain) event(o *object) {
	p.record(Record{Kind: Event, Channel: o.Channel, Position: o.Position, N: numberOf(o.Data)})
	if scalar(p.Channels) {
		p.since = strconv.FormatUint(o.Position, 10)
	}
}

func (p *plain) lose(channels []string, cursor string) {
	for _, channel := range channels {
		p.record(Record{Kind: Resync, Channel: channel, Cursor: cursor})
	}
}

// pass notes that all up to a cursor was sent.
func (p *plain) pass(cursor string) {
	p.record(Record{Kind: Passed, Cursor: cursor})
	p.since = cursor
	if !p.opened {
		p.opened = true
		for _, channel := range p.Channels {
			p.record(Record{Kind: Subscribed, Channel: channel, Cursor: cursor})
		}
	}
}

func (p *plain) end(o *object) {
	p.ended, p.retry = true, time.Duration(o.Retry)*time.Millisecond
	if o.Cursor != "" {
		p.since = o.Cursor
	}
	p.record(Record{Kind: Ended, Cursor: o.Cursor})
}

// nextLine reads an object of a stream of lines. It has no id.
func nextLine(in *bufio.Reader) (text []byte, id string, err error) {
	text, err = in.ReadBytes('\n')
	return text, "", err
}

// nextEvent reads a server-sent event.
func nextEvent(in *bufio.Reader) (text []byte, id string, err error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, "", err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case field == "data":
			text = []byte(value)
		case field == "id":
			id = value
		case field == "" && len(text) > 0:
			return text, id, nil
		}
	}
}
