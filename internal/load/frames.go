package load

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gobwas/ws"
)

// plainSocket is a session of ws.
type plainSocket struct {
	door   *door
	client *client
	frames
}

func (s *plainSocket) begin(out []byte) []byte {
	s.frames = frames{}
	target := "/channels" + s.door.name(s.client.channel)
	if len(s.client.cursor) > 0 {
		target += "?since=" + string(s.client.cursor)
	}
	return s.door.upgrade(out, target)
}

func (s *plainSocket) wake(out []byte) []byte { return out }

func (s *plainSocket) input(in, out []byte) ([]byte, error) {
	return s.read(in, out, s)
}

func (s *plainSocket) opened(out []byte) []byte { return out }

func (s *plainSocket) message(text, out []byte) ([]byte, error) { return out, s.client.line(text) }

// frames is the reading side of a WebSocket, from the response that opens it.
type frames struct {
	response response
	socket   socket
	pieces   pieces
	control  pieces // of a frame that may come between those of a message
	up       bool
}

// listener is whom a WebSocket is for. It appends what it wants to say.
type listener interface {
	opened(out []byte) []byte
	message(text, out []byte) ([]byte, error)
}

// read takes what was received and answers pings; to gets the rest.
func (f *frames) read(in, out []byte, to listener) ([]byte, error) {
	for len(in) > 0 {
		if !f.up {
			body, rest, done, err := f.response.feed(in)
			if err == nil {
				err = f.open(body, done)
			}
			if err != nil {
				return out, err
			}
			in = rest
			if f.up {
				out = to.opened(out)
			}
			continue
		}
		payload, rest, done, err := f.socket.feed(in)
		if err != nil {
			return out, err
		}
		in = rest
		held := &f.pieces
		if f.socket.op.IsControl() {
			held = &f.control
		}
		text, err := held.whole(payload, done)
		if err != nil {
			return out, err
		}
		if !done {
			continue
		}
		switch f.socket.op {
		case ws.OpPing:
			out = appendFrame(out, ws.OpPong, text)
		case ws.OpPong:
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(text)
			return out, fmt.Errorf("the server closed a socket: %d %s", code, reason)
		case ws.OpText:
			if out, err = to.message(text, out); err != nil {
				return out, err
			}
		default:
			return out, errors.New("the server sent a frame that is not text")
		}
	}
	return out, nil
}

func (f *frames) open(body []byte, done bool) error {
	if f.response.status == http.StatusSwitchingProtocols && done {
		f.up = true
		return nil
	}
	text, err := f.pieces.whole(body, done)
	if err == nil && done {
		err = refused(f.response.status, text)
	}
	return err
}
