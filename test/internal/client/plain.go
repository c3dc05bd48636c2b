package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// plain is what the plain transports have in common: the request, and where
// to resume.
type plain struct {
	transport string
	channels  []string
	since     string // a cursor, or where to start
	etag      string // of the newest poll
}

// forget implements follower: cursors are good everywhere.
func (p *plain) forget() { p.etag = "" }

// path is the request's target.
func (p *plain) path(since string, more url.Values) string {
	query := url.Values{"transport": {p.transport}}
	maps.Copy(query, more)
	if since != "" {
		query.Set("since", since)
	}
	const door = "/channels"
	if len(p.channels) > 1 {
		query["channel"] = p.channels
		return door + "?" + query.Encode()
	}
	segments := strings.Split(p.channels[0], "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	return door + strings.Join(segments, "/") + "?" + query.Encode()
}

// single reports whether positions are cursors.
func (p *plain) single() bool { return len(p.channels) == 1 && !strings.Contains(p.channels[0], "*") }

// seen notes how far the owner has come.
func (p *plain) seen(e Event) {
	switch {
	case e.Kind == Message && p.single():
		p.since = fmt.Sprint(e.Position)
	case e.Cursor != "":
		p.since = e.Cursor
	}
}

// object is everything that the server says.
type object struct {
	Type     string          `json:"type"`
	Channel  string          `json:"channel"`
	Position uint64          `json:"position"`
	Data     json.RawMessage `json:"data"`
	Cursor   text            `json:"cursor"`
	Channels []string        `json:"channels"`
	Reason   string          `json:"reason"`
	Retry    int64           `json:"retry"`
	// Of batches.
	Messages []object `json:"messages"`
	Resync   []string `json:"resync"`
	End      string   `json:"end"`
}

// text is a cursor, which may stand as a number or as a string.
type text string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *text) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		return json.Unmarshal(raw, (*string)(t))
	}
	*t = text(raw)
	return nil
}

func (o *object) event() (Event, error) {
	e := Event{
		Kind: Kind(o.Type), Channel: o.Channel, Position: o.Position, Data: o.Data, Cursor: string(o.Cursor),
		Channels: o.Channels, Reason: o.Reason, Retry: time.Duration(o.Retry) * time.Millisecond,
	}
	switch e.Kind {
	case "":
		e.Kind = Message
		if o.Data == nil || o.Channel == "" || o.Position == 0 {
			return e, fmt.Errorf("a message without channel, position or data: %+v", o)
		}
	case Opened, Heartbeat, Cursor, Resync, End:
		if e.Cursor == "" {
			return e, fmt.Errorf("a control object without cursor: %+v", o)
		}
	}
	return e, nil
}

// take decodes an object, hands it over and notes it.
func (p *plain) take(raw []byte, emit func(Event) error) error {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil {
		return fmt.Errorf("%w: %.300s", err, raw)
	}
	e, err := o.event()
	if err != nil {
		return err
	}
	if err := emit(e); err != nil {
		return err
	}
	p.seen(e)
	return nil
}

// stream is sse, stream, multipart and frame.
type stream struct {
	plain
	accept string
	read   func(body io.Reader, take func(raw []byte, id string) error) error
	lastID string // of sse, which resumes by it
}

// follow implements follower. A frame that is to be loaded anew is.
func (s *stream) follow(ctx context.Context, n *network, emit func(Event) error) error {
	for {
		err := s.load(ctx, n, emit)
		reload, ok := errors.AsType[*errReload](err)
		if !ok {
			return err
		}
		s.since = reload.since
	}
}

func (s *stream) load(ctx context.Context, n *network, emit func(Event) error) error {
	header, since := http.Header{"Accept": {s.accept}}, s.since
	if s.lastID != "" {
		header.Set("Last-Event-ID", s.lastID)
		since = "" // an EventSource repeats the URL it began with
	}
	resp, err := n.do(ctx, http.MethodGet, s.path(since, nil), header, nil, http.StatusOK)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, s.accept) {
		return fmt.Errorf("content type %q, want %s", got, s.accept)
	}
	if err := checkHeaders(resp.Header); err != nil {
		return err
	}
	return s.read(resp.Body, func(raw []byte, id string) error {
		if err := s.take(raw, emit); err != nil {
			return err
		}
		if id != "" {
			s.lastID = id
		}
		return nil
	})
}

// checkHeaders returns an error unless the headers keep proxies and browsers
// from storing, changing or sniffing what comes. nginx eats X-Accel-Buffering.
func checkHeaders(h http.Header) error {
	var errs []error
	for _, want := range []string{"no-store", "no-transform"} {
		if !strings.Contains(h.Get("Cache-Control"), want) {
			errs = append(errs, fmt.Errorf("cache control %q without %s", h.Get("Cache-Control"), want))
		}
	}
	if h.Get("X-Content-Type-Options") != "nosniff" {
		errs = append(errs, errors.New("no nosniff"))
	}
	if h.Get("Content-Encoding") != "" {
		errs = append(errs, errors.New("a stream with a content encoding"))
	}
	return errors.Join(errs...)
}

// plainSocket is ws.
type plainSocket struct{ plain }

// follow implements follower.
func (s *plainSocket) follow(ctx context.Context, n *network, emit func(Event) error) error {
	sock, err := dialSocket(ctx, n, s.path(s.since, nil))
	if err != nil {
		return err
	}
	defer func() { _ = sock.conn.Close() }()
	sock.ping = func() error { return emit(Event{Kind: Heartbeat, Reason: Ping}) }
	for {
		raw, err := sock.next(ctx)
		if err != nil {
			return err
		}
		if err := s.take(raw, emit); err != nil {
			return err
		}
	}
}
