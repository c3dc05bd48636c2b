package load

import (
	"net/http"
)

// stream is a session of sse, stream, multipart or frame: one response that
// does not end, made of lines.
type stream struct {
	door     *door
	client   *client
	response response
	pieces   pieces
}

func (s *stream) begin(out []byte) []byte {
	s.response, s.pieces = response{}, pieces{}
	return s.door.get(out, s.client, "latest", "")
}

func (s *stream) wake(out []byte) []byte { return out }

func (s *stream) input(in, out []byte) ([]byte, error) {
	for len(in) > 0 {
		body, rest, done, err := s.response.feed(in)
		if err != nil {
			return out, err
		}
		in = rest
		if s.response.status != http.StatusOK {
			err = s.refusal(body, done)
		} else {
			err = s.text(body)
		}
		if err != nil {
			return out, err
		}
		if !done {
			continue
		}
		if s.door.transport != "frame" {
			return out, &again{reason: "the server completed a stream"}
		}
		// A frame is full, and its last script loads the next.
		if s.response.closes {
			return out, &again{reason: "a frame was full"}
		}
		s.client.sequence.resume()
		out = s.begin(out)
	}
	return out, nil
}

func (s *stream) refusal(body []byte, done bool) error {
	text, err := s.pieces.whole(body, done)
	if err == nil && done {
		err = refused(s.response.status, text)
	}
	return err
}

func (s *stream) text(text []byte) error {
	for {
		line, rest, more, err := s.pieces.line(text)
		if !more {
			return err
		}
		text = rest
		if err := s.client.line(line); err != nil {
			return err
		}
	}
}

// line takes one line, or one message of a WebSocket.
func (c *client) line(text []byte) error {
	rest, n := c.take(text)
	if n > 0 {
		return nil
	}
	if text := findControl(rest); text != nil {
		return c.control(text)
	}
	return nil
}
