package comettest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// socket is a WebSocket.
type socket struct {
	net.Conn

	in     *bufio.Reader // what came with the handshake, or nil
	cancel func() bool
}

// dialSocket opens a WebSocket, which ends with the context.
func (c *Client) dialSocket(ctx context.Context, path string) (*socket, error) {
	dialing, cancel := context.WithTimeout(ctx, networkDelay)
	defer cancel()
	dialer := ws.Dialer{NetDial: func(ctx context.Context, _, addr string) (net.Conn, error) { return c.dial(ctx, addr) }}
	conn, in, _, err := dialer.Dial(dialing, "ws://"+c.edge()+path)
	if err != nil {
		return nil, err
	}
	return &socket{Conn: conn, in: in, cancel: context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
}

// Read implements [io.Reader].
func (s *socket) Read(b []byte) (int, error) {
	if s.in != nil {
		if s.in.Buffered() > 0 {
			return s.in.Read(b)
		}
		s.in = nil
	}
	return s.Conn.Read(b)
}

// receive returns the next message. It waits for that no longer than patience,
// however many pings come, which it answers.
func (s *socket) receive(patience time.Duration) ([]byte, error) {
	if err := s.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	return wsutil.ReadServerText(s)
}

func (s *socket) send(text []byte) error { return wsutil.WriteClientText(s, text) }

// Close implements [io.Closer].
func (s *socket) Close() error {
	s.cancel()
	return s.Conn.Close()
}

var _ io.ReadWriteCloser = &socket{}

// socketCarrier is the carrier of a Bayeux client over a WebSocket.
type socketCarrier struct {
	client *Client
	socket *socket
}

func (l *socketCarrier) open(ctx context.Context) (err error) {
	l.socket, err = l.client.dialSocket(ctx, "/cometd")
	return err
}

func (l *socketCarrier) close() { _ = l.socket.Close() }

func (l *socketCarrier) exchange(ctx context.Context, text []byte, take func([]message) bool) error {
	if err := l.socket.send(text); err != nil {
		return err
	}
	until, _ := ctx.Deadline()
	for {
		messages, err := l.receive(until)
		if err != nil {
			return err
		}
		if take(messages) {
			return nil
		}
	}
}

// wait implements [carrier]. As browsers do, it answers pings meanwhile.
func (l *socketCarrier) wait(ctx context.Context, d time.Duration, take func([]message)) {
	for until := time.Now().Add(d); time.Now().Before(until); {
		messages, err := l.receive(until)
		if err != nil {
			wait(ctx, time.Until(until))
			return
		}
		take(messages)
	}
}

func (l *socketCarrier) receive(until time.Time) (messages []message, err error) {
	frame, err := l.socket.receive(time.Until(until))
	if err != nil {
		return nil, err
	}
	return messages, json.Unmarshal(frame, &messages)
}
