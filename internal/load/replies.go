package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// replies is a session of poll, long-poll or jsonp: one batch for a request.
type replies struct {
	door     *door
	client   *client
	response response
	pieces   pieces
}

func (s *replies) begin(out []byte) []byte {
	s.response, s.pieces = response{}, pieces{}
	return s.ask(out)
}

func (s *replies) wake(out []byte) []byte { return s.ask(out) }

// ask appends the next request. The first only asks where the channel ends.
func (s *replies) ask(out []byte) []byte {
	more := ""
	switch {
	case s.client.phase != live && s.door.transport != "poll":
		more = "&wait=0"
	case s.door.transport == "poll":
		more = "&limit=1000"
	}
	return s.door.get(out, s.client, "latest", more)
}

func (s *replies) input(in, out []byte) ([]byte, error) {
	for len(in) > 0 {
		body, rest, done, err := s.response.feed(in)
		if err != nil {
			return out, err
		}
		in = rest
		text, err := s.pieces.whole(body, done)
		if err != nil {
			return out, err
		}
		if !done {
			continue
		}
		if s.response.status != http.StatusOK {
			return out, refused(s.response.status, text)
		}
		if out, err = s.batch(text, out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// batch takes a reply and asks for the next.
func (s *replies) batch(text, out []byte) ([]byte, error) {
	c := s.client
	first := c.phase != live
	rest, n := c.take(text)
	if !c.cursorIn(rest) {
		return out, fmt.Errorf("a reply has no cursor: %s", clip(text))
	}
	if err := c.news(text, rest); err != nil {
		return out, err
	}
	c.subscribed()
	switch {
	case s.response.closes:
		return out, &again{reason: "the server closed a connection behind a reply"}
	case s.door.transport != "poll" || n >= 1000:
		return s.ask(out), nil
	case first: // spread the clients, which came at about the same time
		c.pause(s.door.pollEvery * time.Duration(c.number*619%1000) / 1000)
	default:
		c.pause(s.door.pollEvery)
	}
	return out, nil
}

// cursorIn takes the cursor that stands behind a batch's messages.
func (c *client) cursorIn(rest []byte) bool {
	i := bytes.LastIndex(rest, []byte(`"cursor":`))
	if i < 0 {
		return false
	}
	value := rest[i+len(`"cursor":`):]
	if end := bytes.IndexAny(value, ",}"); end >= 0 {
		c.at(value[:end])
		return true
	}
	return false
}

// news takes what a batch says besides messages, if there is any.
func (c *client) news(text, rest []byte) error {
	if !bytes.Contains(rest, []byte(`"resync"`)) && !bytes.Contains(rest, []byte(`"end"`)) {
		return nil
	}
	var batch struct {
		Resync []string `json:"resync"`
		End    string   `json:"end"`
		Retry  int      `json:"retry"`
	}
	if err := json.Unmarshal(inner(text), &batch); err != nil {
		return fmt.Errorf("a reply is not a batch: %w", err)
	}
	if len(batch.Resync) > 0 {
		c.tally.resyncs++
	}
	if batch.End != "" {
		return &again{after: time.Duration(batch.Retry) * time.Millisecond, reason: "the server ended a poll: " + batch.End}
	}
	return nil
}

// inner returns what a script's call is made with; other text stays as it is.
func inner(text []byte) []byte {
	if !bytes.HasPrefix(text, []byte("/**/")) {
		return text
	}
	from, to := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return text
	}
	return text[from+1 : to]
}
