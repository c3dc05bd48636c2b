package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	if p.since == "" {
		p.since = "latest" // for a poll it is not the default
	}
	// The first reply says where a client is that comes without a cursor.
	at := url.Values{}
	if p.transport != "poll" {
		at.Set("wait", "0")
	}
	b, err := p.ask(ctx, n, at)
	if err != nil {
		return err
	}
	if err := emit(Event{Kind: Opened, Cursor: p.since}); err != nil {
		return err
	}
	for {
		if err := p.takeBatch(b, emit); err != nil || b.End != "" {
			return err
		}
		if p.transport == "poll" {
			select {
			case <-time.After(pollEvery):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if b, err = p.ask(ctx, n, nil); err != nil {
			return leaving(err, emit)
		}
	}
}

// leaving tells the refusal of a server that leaves as the end that it is.
func leaving(err error, emit func(Event) error) error {
	if status, ok := errors.AsType[*StatusError](err); ok && status.Reason == "DRAINING" {
		return emit(Event{Kind: End, Reason: "draining", Retry: status.Retry})
	}
	return err
}

// ask sends one request.
func (p *poller) ask(ctx context.Context, n *network, more url.Values) (*object, error) {
	query, header := url.Values{}, http.Header{}
	maps.Copy(query, more)
	if p.callback != "" {
		query.Set("jsonp", p.callback)
	}
	if p.etag != "" {
		header.Set("If-None-Match", p.etag)
	}
	a, err := n.whole(ctx, http.MethodGet, p.path(p.since, query), header, nil, http.StatusOK, http.StatusNotModified)
	if err != nil {
		return nil, err
	}
	if a.status == http.StatusNotModified {
		if p.etag == "" {
			return nil, errors.New("304 to a request without If-None-Match")
		}
		return &object{Cursor: text(p.since)}, nil
	}
	want := "application/json"
	if p.callback != "" {
		want = "text/javascript"
		if a.body, err = unwrap(a.body, p.callback); err != nil {
			return nil, err
		}
	}
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, want) {
		return nil, fmt.Errorf("content type %q, want %s", got, want)
	}
	b := &object{}
	if err := json.Unmarshal(a.body, b); err != nil {
		return nil, fmt.Errorf("%w: %.300s", err, a.body)
	}
	if b.Cursor == "" || b.Messages == nil {
		return nil, fmt.Errorf("a batch without cursor or messages: %.300s", a.body)
	}
	if p.transport == "poll" {
		if p.etag = a.header.Get("ETag"); p.etag != `"`+string(b.Cursor)+`"` {
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
