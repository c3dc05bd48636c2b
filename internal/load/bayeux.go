package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// bayeuxStep is what a Bayeux client has asked for last.
type bayeuxStep uint8

const (
	handshaking bayeuxStep = iota
	subscribing
	connecting
)

// bayeux is a Bayeux client: handshake, subscribe, then connect after connect.
type bayeux struct {
	client  *client
	channel string
	kind    string // the connection type
	step    bayeuxStep
	id      string // of the session
	number  int    // of the message
}

// answer is a reply to a meta message.
type answer struct {
	Channel    string `json:"channel"`
	ClientID   string `json:"clientId"`
	Successful *bool  `json:"successful"`
	Error      string `json:"error"`
	Advice     struct {
		Reconnect string `json:"reconnect"`
		Interval  int    `json:"interval"` // milliseconds
	} `json:"advice"`
	Ext struct {
		Comet struct {
			Resync []string `json:"resync"`
		} `json:"comet"`
	} `json:"ext"`
}

func (a *answer) ok() bool { return a.Successful != nil && *a.Successful }

// say appends what the client says at its step.
func (b *bayeux) say(out []byte) []byte {
	b.number++
	out = append(out, `[{"channel":"/meta/`...)
	switch b.step {
	case handshaking:
		out = append(append(out, `handshake","version":"1.0","supportedConnectionTypes":["`...), b.kind...)
		out = append(out, `"]`...)
	case subscribing:
		out = append(append(out, `subscribe","subscription":"`...), b.channel...)
		out = append(append(out, `","clientId":"`...), b.id...)
		out = append(out, '"')
	case connecting:
		out = append(append(out, `connect","connectionType":"`...), b.kind...)
		out = append(append(out, `","clientId":"`...), b.id...)
		out = append(out, '"')
	}
	out = strconv.AppendInt(append(out, `,"id":"`...), int64(b.number), 10)
	return append(out, `"}]`...)
}

// resume begins anew behind a lost connection, with the session if there is one.
func (b *bayeux) resume() {
	if b.id == "" {
		b.step = handshaking
	}
}

// text takes messages from the server. next reports that there is something to
// say, after a pause.
func (b *bayeux) text(text []byte) (next bool, pause time.Duration, err error) {
	b.client.take(text)
	if b.step == connecting && !bytes.Contains(text, []byte(`"successful":false`)) &&
		!bytes.Contains(text, []byte(`"advice"`)) && !bytes.Contains(text, []byte(`"resync"`)) {
		return bytes.Contains(text, []byte(`"/meta/connect"`)), 0, nil
	}
	var answers []answer
	if err := json.Unmarshal(inner(text), &answers); err != nil {
		return false, 0, fmt.Errorf("the server sent what is no array of messages: %s", clip(text))
	}
	for i := range answers {
		if len(answers[i].Ext.Comet.Resync) > 0 {
			b.client.tally.resyncs++
		}
		if answers[i].Successful == nil { // an event
			continue
		}
		next = true
		if pause, err = b.follow(&answers[i]); err != nil {
			return false, 0, err
		}
	}
	return next, pause, nil
}

// follow does what an answer asks for, and says how long to wait first.
func (b *bayeux) follow(a *answer) (pause time.Duration, err error) {
	pause = time.Duration(a.Advice.Interval) * time.Millisecond
	switch {
	case a.Channel == "/meta/handshake" && a.ok():
		b.id, b.step = a.ClientID, subscribing
		return 0, nil
	case a.Channel == "/meta/subscribe" && a.ok():
		b.step = connecting
		b.client.subscribed()
		return 0, nil
	case a.Channel == "/meta/connect" && a.ok():
		return pause, nil
	case a.Advice.Reconnect == "handshake" || strings.HasPrefix(a.Error, "402"):
		b.id, b.step = "", handshaking
		return 0, &again{after: pause, reason: "the server asked for a new session: " + a.Error}
	case a.Advice.Reconnect == "none" || a.Channel != "/meta/connect":
		b.id, b.step = "", handshaking
		return 0, fmt.Errorf("%s was refused: %s", a.Channel, a.Error)
	}
	return pause, nil
}

// bayeuxPolls is a session of long-polling or callback-polling.
type bayeuxPolls struct {
	door *door
	bayeux
	response response
	pieces   pieces
	cookies  string
}

func (s *bayeuxPolls) begin(out []byte) []byte {
	s.response, s.pieces = response{}, pieces{}
	s.resume()
	if s.step == connecting {
		s.client.subscribed()
	}
	return s.wake(out)
}

func (s *bayeuxPolls) wake(out []byte) []byte {
	body := s.say(make([]byte, 0, 256))
	if s.kind == "callback-polling" {
		out = append(append(append(out, "GET "...), s.door.path...), "/cometd?jsonp=cb&message="...)
		out = append(out, url.QueryEscape(string(body))...)
		out = append(append(out, " HTTP/1.1\r\nHost: "...), s.door.host...)
	} else {
		out = append(append(append(out, "POST "...), s.door.path...), "/cometd HTTP/1.1\r\nHost: "...)
		out = append(append(out, s.door.host...), "\r\nContent-Type: application/json\r\nContent-Length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
	}
	if s.cookies != "" {
		out = append(append(out, "\r\nCookie: "...), s.cookies...)
	}
	out = append(out, "\r\n\r\n"...)
	if s.kind != "callback-polling" {
		out = append(out, body...)
	}
	return out
}

func (s *bayeuxPolls) input(in, out []byte) ([]byte, error) {
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
		if out, err = s.reply(text, out); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (s *bayeuxPolls) reply(text, out []byte) ([]byte, error) {
	if s.response.cookies != "" {
		s.cookies = s.response.cookies
	}
	next, pause, err := s.text(text)
	switch {
	case err != nil:
		return out, err
	case !next:
		return out, errors.New("a reply answers nothing: " + clip(text))
	case s.response.closes:
		return out, &again{after: pause, reason: "the server closed a connection behind a reply"}
	case pause > 0:
		s.client.pause(pause)
		return out, nil
	}
	return s.wake(out), nil
}

// bayeuxSocket is a session of websocket.
type bayeuxSocket struct {
	door *door
	bayeux
	frames
}

func (s *bayeuxSocket) begin(out []byte) []byte {
	s.frames = frames{}
	s.resume()
	return s.door.upgrade(out, "/cometd")
}

func (s *bayeuxSocket) wake(out []byte) []byte {
	return appendFrame(out, ws.OpText, s.say(nil))
}

func (s *bayeuxSocket) input(in, out []byte) ([]byte, error) { return s.read(in, out, s) }

func (s *bayeuxSocket) opened(out []byte) []byte {
	if s.step == connecting { // a session goes on
		s.client.subscribed()
	}
	return s.wake(out)
}

func (s *bayeuxSocket) message(text, out []byte) ([]byte, error) {
	next, pause, err := s.text(text)
	switch {
	case err != nil || !next:
		return out, err
	case pause > 0:
		s.client.pause(pause)
		return out, nil
	}
	return s.wake(out), nil
}
