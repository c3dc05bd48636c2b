package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// pollEvery is the pause of a client that asks from time to time.
const pollEvery = 25 * time.Millisecond

// poller is poll, long-poll and jsonp.
type poller struct {
	plain
	callback string // of jsonp
}

// follow implements follower.
func (p *poller) follow(ctx context.Context, n *network, emit func(Event) error) error {
	if p.since == "" || p.since == "latest" {
		// The first reply says where a client is that comes without a cursor.
		more := url.Values{}
		if p.transport != "poll" {
			more.Set("wait", "0")
		}
		b, err := p.ask(ctx, n, "latest", more)
		if err != nil {
			return err
		}
		p.since = string(b.Cursor)
	}
	if err := emit(Event{Kind: Opened, Cursor: p.since}); err != nil {
		return err
	}
	for {
		b, err := p.ask(ctx, n, p.since, nil)
		if err == nil {
			err = p.takeBatch(b, emit)
		}
		if err != nil {
			return leaving(err, emit)
		}
		if b.End != "" {
			return nil
		}
		if p.transport == "poll" {
			select {
			case <-time.After(pollEvery):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// leaving tells the refusal of a server that leaves as the end that it is.
func leaving(err error, emit func(Event) error) error {
	if status, ok := errors.AsType[*StatusError](err); ok && status.Reason == "DRAINING" {
		return emit(Event{Kind: End, Reason: "draining"})
	}
	return err
}

// ask sends one request; a nil batch means that nothing has changed.
func (p *poller) ask(ctx context.Context, n *network, since string, more url.Values) (*object, error) {
	query, header := url.Values{}, http.Header{}
	for name, values := range more {
		query[name] = values
	}
	if p.callback != "" {
		query.Set("jsonp", p.callback)
	}
	if p.etag != "" {
		header.Set("If-None-Match", p.etag)
	}
	resp, body, err := n.whole(ctx, http.MethodGet, p.path(since, query), header, nil, http.StatusOK, http.StatusNotModified)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusNotModified {
		if p.etag == "" {
			return nil, errors.New("304 to a request without If-None-Match")
		}
		return &object{Cursor: text(since)}, nil
	}
	want := "application/json"
	if p.callback != "" {
		want = "text/javascript"
		if body, err = unwrap(body, p.callback); err != nil {
			return nil, err
		}
	}
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, want) {
		return nil, fmt.Errorf("content type %q, want %s", got, want)
	}
	b := &object{}
	if err := json.Unmarshal(body, b); err != nil {
		return nil, fmt.Errorf("%w: %.300s", err, body)
	}
	if b.Cursor == "" || b.Messages == nil {
		return nil, fmt.Errorf("a batch without cursor or messages: %.300s", body)
	}
	if p.transport == "poll" {
		if p.etag = resp.Header.Get("ETag"); p.etag != `"`+string(b.Cursor)+`"` {
			return nil, fmt.Errorf("ETag %s of a batch with cursor %s", p.etag, b.Cursor)
		}
	}
	return b, nil
}

// takeBatch hands a batch over.
func (p *poller) takeBatch(b *object, emit func(Event) error) error {
	if len(b.Resync) > 0 {
		if err := emit(Event{Kind: Resync, Channels: b.Resync}); err != nil {
			return err
		}
	}
	for i := range b.Messages {
		e, err := b.Messages[i].event()
		if err != nil {
			return err
		}
		if err := emit(e); err != nil {
			p.etag = "" // it names more than was seen
			return err
		}
		p.seen(e)
	}
	p.since = string(b.Cursor)
	switch {
	case b.End != "":
		return emit(Event{Kind: End, Reason: b.End, Retry: time.Duration(b.Retry) * time.Millisecond, Cursor: p.since})
	case len(b.Messages)+len(b.Resync) == 0:
		return emit(Event{Kind: Heartbeat, Cursor: p.since})
	}
	return nil
}
