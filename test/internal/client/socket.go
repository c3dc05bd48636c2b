package client

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/gobwas/ws"
)

// socket is a WebSocket, read by one goroutine.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
	ping func() error // called for each ping; may be nil
}

// dialSocket upgrades a path. A refusal is a StatusError.
func dialSocket(ctx context.Context, n *network, path string) (*socket, error) {
	conn, u, err := n.raw(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	const key = "Y29tZXQgdGVzdCBjbGllbg=="
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n", path, u.Host, key)
	if err != nil {
		return nil, err
	}
	in := reader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer func() { _ = resp.Body.Close() }()
		defer func() { _ = conn.Close() }()
		return nil, statusError(resp)
	}
	return &socket{conn: conn, in: in}, nil
}

// next returns the next text message; it answers pings, and returns a
// CloseError when the server closes.
func (s *socket) next(ctx context.Context) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer stop()
	var text []byte
	for {
		h, err := ws.ReadHeader(s.in)
		if err != nil {
			return nil, err
		}
		if h.Masked || h.Rsv != 0 {
			return nil, fmt.Errorf("a server's frame with header %+v", h)
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(s.in, payload); err != nil {
			return nil, err
		}
		switch h.OpCode {
		case ws.OpPing:
			_ = s.write(ws.OpPong, payload) // a server that has closed may have said why
			if s.ping != nil {
				if err := s.ping(); err != nil {
					return nil, err
				}
			}
		case ws.OpPong:
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(payload)
			_ = s.write(ws.OpClose, payload) // the server may be gone already
			return nil, &CloseError{Code: int(code), Reason: reason}
		case ws.OpText, ws.OpContinuation:
			text = append(text, payload...)
			if h.Fin {
				return text, nil
			}
		default:
			return nil, fmt.Errorf("a frame with opcode %v", h.OpCode)
		}
	}
}

// write sends one frame.
func (s *socket) write(op ws.OpCode, payload []byte) error {
	var mask [4]byte
	_, _ = rand.Read(mask[:]) // never fails
	return ws.WriteFrame(s.conn, ws.MaskFrameWith(ws.NewFrame(op, true, payload), mask))
}
