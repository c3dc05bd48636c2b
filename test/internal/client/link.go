package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/gobwas/ws"
)

const door = "/cometd"

// exchanges is a link of HTTP requests: POST for long-polling, GET of scripts
// for callback-polling.
type exchanges struct {
	network *network
	method  string
	pending []byte
}

func (x *exchanges) open(context.Context) error { return nil }
func (x *exchanges) close()                     {}

func (x *exchanges) send(_ context.Context, messages []byte) error {
	x.pending = messages
	return nil
}

func (x *exchanges) receive(ctx context.Context) ([]message, error) {
	if x.pending == nil {
		return nil, fmt.Errorf("an answer without a reply to the request")
	}
	const callback = "_cometd_jsonp_0"
	path, want := door, "application/json"
	header := http.Header{}
	var body io.Reader
	if x.method == http.MethodGet {
		path += "?" + url.Values{"jsonp": {callback}, "message": {string(x.pending)}}.Encode()
		want = "text/javascript"
	} else {
		header.Set("Content-Type", want)
		body = bytes.NewReader(x.pending)
	}
	x.pending = nil
	a, err := x.network.whole(ctx, x.method, path, header, body, http.StatusOK)
	if err != nil {
		return nil, err
	}
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, want) {
		return nil, fmt.Errorf("content type %q, want %s", got, want)
	}
	if x.method == http.MethodGet {
		if a.body, err = unwrap(a.body, callback); err != nil {
			return nil, err
		}
	}
	return decode(a.body)
}

// socketLink is a link over a WebSocket.
type socketLink struct {
	network *network
	socket  *socket
	beats   int
}

func newSocketLink(n *network) link { return &socketLink{network: n} }

func (s *socketLink) open(ctx context.Context) error {
	var err error
	if s.socket, err = dialSocket(ctx, s.network, door); err != nil {
		return err
	}
	s.socket.ping = func() error { s.beats++; return nil }
	return nil
}

func (s *socketLink) close() { _ = s.socket.conn.Close() }

func (s *socketLink) send(_ context.Context, messages []byte) error {
	return s.socket.write(ws.OpText, messages)
}

func (s *socketLink) receive(ctx context.Context) ([]message, error) {
	raw, err := s.socket.next(ctx)
	if err != nil {
		return nil, err
	}
	messages, err := decode(raw)
	for ; s.beats > 0; s.beats-- {
		messages = append(messages, message{beat: true})
	}
	return messages, err
}

func decode(text []byte) ([]message, error) {
	var messages []message
	if err := json.Unmarshal(text, &messages); err != nil {
		return nil, fmt.Errorf("%w: %.300s", err, text)
	}
	return messages, nil
}
