package edge

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
)

// script is a browser that sends messages by script tags.
type script struct {
	*browserClient
}

// ask loads a script and returns what it calls its function with.
func (s *script) ask(messages ...message) []message {
	s.w.t.Helper()
	for _, m := range messages {
		if s.clientID != "" {
			m["clientId"] = s.clientID
		}
	}
	body, _ := json.Marshal(messages)
	target := "http://edge.test/cometd?" + url.Values{"jsonp": {"f"}, "message": {string(body)}}.Encode()
	r, err := http.NewRequestWithContext(s.w.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		s.w.t.Fatal(err)
	}
	res, err := s.http.Do(r)
	if err != nil {
		s.w.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, _ := io.ReadAll(res.Body)
	text, called := bytes.CutPrefix(text, []byte("/**/f("))
	text, ended := bytes.CutSuffix(text, []byte(");"))
	var answer []message
	if err := json.Unmarshal(text, &answer); err != nil || !called || !ended {
		s.w.t.Fatalf("status %d: %s", res.StatusCode, text)
	}
	return answer
}

func TestSessionOfScripts(t *testing.T) {
	inWorld(t, Config{JSONP: true}, func(w *world) {
		s := &script{w.client()}
		reply := s.ask(message{
			"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []string{"callback-polling"},
		})[0]
		s.clientID, _ = reply["clientId"].(string)
		s.want(s.ask(message{"channel": "/meta/subscribe", "subscription": "/a"}))
		poll := func() []message {
			return s.ask(message{"channel": "/meta/connect", "connectionType": "callback-polling"})
		}
		s.want(poll())
		if got := transportOf(w); got != "callback-polling" {
			t.Errorf("presence says %q", got)
		}
		held := make(chan []message)
		go func() { held <- poll() }()
		synctest.Wait()
		s.want(s.ask(message{"channel": "/a", "data": strings.Repeat("x", 20_000)}))
		if answer := <-held; channelsOf(answer) != "/a /meta/connect" {
			t.Errorf("got %v", answer)
		}
		w.wantQuiet()
	})
}

func TestScriptsAreSwitchedOff(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		reply := w.client().send(message{
			"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []string{"callback-polling"},
		})[0]
		if reply["error"] != "301:callback-polling:Connection types not supported" {
			t.Errorf("got %v", reply)
		}
	})
}
