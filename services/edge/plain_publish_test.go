package edge

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/namespace"
)

const jsonHeader = "application/json"

func (w *world) post(path, body string, headers ...string) got {
	w.t.Helper()
	return w.do(http.MethodPost, path, body, append([]string{"Content-Type", jsonHeader}, headers...)...)
}

func TestPost(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		s, _ := w.open("stream", "/channels/a")
		res := w.post("/channels/a", ` {"n": 12345678901234567890} `+"\n")
		if res.StatusCode != http.StatusOK || res.text != `{"position":1,"duplicate":false}` || res.Header.Get("Content-Type") != jsonHeader {
			w.t.Errorf("status %d, %s", res.StatusCode, res.text)
		}
		if u := s.next(); u.raw != `{"channel":"/a","position":1,"data":{"n": 12345678901234567890}}`+"\n" {
			w.t.Errorf("got %s", u.raw)
		}
		w.post("/channels/a", "2", "Idempotency-Key", "k")
		if res := w.post("/channels/a", "2", "Idempotency-Key", "k"); res.text != `{"position":2,"duplicate":true}` {
			w.t.Errorf("got %s", res.text)
		}
		if got := w.value("comet_edge_publishes_total"); got != 3 {
			w.t.Errorf("counted %v publishes", got)
		}
		w.broker.set(true)
		if res := w.post("/channels/a", "1"); res.StatusCode != http.StatusServiceUnavailable || res.object["reason"] != "UNAVAILABLE" {
			w.t.Errorf("status %d, %s", res.StatusCode, res.text)
		}
		s.close()
		w.wantQuiet()
	})
}

// A body that does not come in time is refused, and its connection closed.
func TestSlowPost(t *testing.T) {
	inWorld(t, Config{ReadTimeout: 3 * time.Second}, func(w *world) {
		conn, err := w.doors.Dial(w.t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		began := time.Now()
		_, _ = fmt.Fprintf(conn, "POST /channels/a HTTP/1.1\r\nHost: edge.test\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n[1")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if took := time.Since(began); res.StatusCode != http.StatusBadRequest || !res.Close || took != 3*time.Second ||
			!strings.Contains(string(text), `"DATA_INVALID","detail":"the body did not arrive in time"`) {
			t.Errorf("after %v: status %d, %s", took, res.StatusCode, text)
		}
	})
}

func TestPiggyback(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		for i := range 4 {
			w.broker.publish("/a", fmt.Sprint(i))
			w.broker.publish("/b", fmt.Sprint(i))
		}
		synctest.Wait()
		res := w.post("/channels/a?since=2", `"own"`)
		if want := `{"position":5,"duplicate":false,"messages":[{"channel":"/a","position":3,"data":2},` +
			`{"channel":"/a","position":4,"data":3},{"channel":"/a","position":5,"data":"own"}],"cursor":"5"}`; res.text != want {
			w.t.Errorf("got %s, want %s", res.text, want)
		}
		if res := w.post("/channels/a?since=latest", `"own"`); res.messages() != `/a="own"` || res.cursor() != "6" {
			w.t.Errorf("got %s", res.text)
		}
		if res := w.post("/channels/a?since=3&channel=/b", "0"); res.messages() != "/b=3" || res.object["position"] != 7.0 {
			w.t.Errorf("got %s", res.text)
		}
		if res := w.post("/channels/a?since=5&limit=1", "0"); res.messages() != `/a="own"` || res.cursor() != "6" {
			w.t.Errorf("got %s", res.text)
		}
		res = w.post("/channels/a?since=earliest&channel=/b&channel=/a", "0")
		if got := strings.Fields(res.messages()); len(got) != 13 || !strings.HasPrefix(res.cursor(), "~") {
			w.t.Errorf("got %s", res.text)
		}
		w.broker.set(true)
		if res := w.post("/channels/a?since=2", "1"); res.StatusCode != http.StatusServiceUnavailable {
			w.t.Errorf("status %d, %s", res.StatusCode, res.text)
		}
		w.wantQuiet()
		if got := w.value("comet_edge_readers"); got != 0 {
			w.t.Errorf("%v readers are left", got)
		}
	})
}

func TestSocketPublishes(t *testing.T) {
	inWorld(t, Config{Publishes: 2}, func(w *world) {
		s, _ := w.open("ws", "/channels/b")
		for _, tt := range []struct{ say, want string }{
			{`{"channel":"/a","data":{"x":1},"id":"7"}`, `{"type":"published","id":"7","position":1,"duplicate":false}`},
			{`{"channel":"/a","data":2}`, `{"type":"published","position":2,"duplicate":false}`},
			{`{"channel":"/a","data":3,"idempotencyKey":"k","id":"\"<"}`, `{"type":"published","id":"\"\u003c","position":3,"duplicate":false}`},
			{`{"channel":"/a","data":3,"idempotencyKey":"k"}`, `{"type":"published","position":3,"duplicate":true}`},
		} {
			s.say(tt.say)
			if u := s.next(); u.raw != tt.want {
				t.Errorf("%s: got %s, want %s", tt.say, u.raw, tt.want)
			}
		}
		for say, reason := range map[string]string{
			`x`:                              "DATA_INVALID",
			`[1]`:                            "DATA_INVALID",
			`{"channel":"/a","id":"9"}`:      "DATA_INVALID",
			`{"channel":"/a/*","data":1}`:    "CHANNEL_INVALID",
			`{"channel":"a","data":1}`:       "CHANNEL_INVALID",
			`{"channel":"/meta/x","data":1}`: "CHANNEL_INVALID",
			`{"channel":"/a","data":1,"idempotencykeys":1}`:                                 "PARAMETER_INVALID",
			`{"channel":"/a","data":1,"idempotencyKey":"` + strings.Repeat("k", 129) + `"}`: "PARAMETER_INVALID",
			`{"channel":"/a","data":"` + strings.Repeat("x", 600<<10) + `"}`:                "MESSAGE_TOO_LARGE",
		} {
			s.say(say)
			if u := s.next(); u.kind() != "refused" || u.object["reason"] != reason || u.object["detail"] == "" {
				t.Errorf("%.80s: got %s, want %s", say, u.raw, reason)
			}
		}
		s.say(`{"channel":"/b","data":"own"}`)
		if a, b := s.next(), s.next(); a.kind()+b.kind() != "published" {
			t.Errorf("got %s and %s", a.raw, b.raw)
		}
		s.close()
		w.wantQuiet()
	})
}

func TestSocketPublishesAreBounded(t *testing.T) {
	inWorld(t, Config{Publishes: 2}, func(w *world) {
		s, _ := w.open("ws", "/channels/b")
		hold := make(chan struct{})
		w.broker.work <- func() { <-hold }
		for i := range 3 {
			s.say(fmt.Sprintf(`{"channel":"/a","data":1,"id":"%d"}`, i))
		}
		if u := s.next(); u.object["id"] != "2" || u.object["reason"] != "LIMIT_EXCEEDED" {
			t.Errorf("got %s", u.raw)
		}
		close(hold)
		if a, b := s.next(), s.next(); a.object["id"] != "0" || b.object["id"] != "1" {
			t.Errorf("got %s and %s", a.raw, b.raw)
		}
	})
}

// A client that publishes and reads no answers does not make the edge keep them.
func TestSocketAnswersAreBounded(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		s, _ := w.open("ws", "/channels/b")
		id := strings.Repeat("i", 200)
		for range 3000 {
			s.say(fmt.Sprintf(`{"channel":"/a","data":1,"id":%q}`, id))
			if w.value("comet_edge_readers_ended_total") > 0 {
				break
			}
		}
		for {
			u, err := s.read()
			if err != nil {
				if !strings.Contains(err.Error(), "1013") {
					t.Errorf("got %v", err)
				}
				break
			}
			if u.kind() == "end" && u.object["reason"] != "slow" {
				t.Errorf("got %s", u.raw)
			}
		}
	})
}

func TestPermissions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, namespace.Closed(),
			namespace.Options{Pattern: "/open/**", Subscribe: namespace.Anyone, Publish: namespace.Anyone, MaxMessageBytes: 100},
			namespace.Options{Pattern: "/members/**", Subscribe: namespace.Sessions, Publish: namespace.Sessions},
		)
		w.start()
		for path, want := range map[string]string{
			"/channels/open/a":                                 "",
			"/channels/open/**":                                "",
			"/channels/members/a":                              "SUBSCRIBE_DENIED /members/a",
			"/channels/x":                                      "SUBSCRIBE_DENIED /x",
			"/channels/**":                                     "SUBSCRIBE_DENIED /**",
			"/channels/presence/open/a":                        "SUBSCRIBE_DENIED /presence/open/a",
			"/channels?channel=/open/a&channel=/x":             "SUBSCRIBE_DENIED /x",
			"/channels?channel=/x&transport=sse":               "SUBSCRIBE_DENIED /x",
			"/channels?channel=/service/a&transport=long-poll": "SUBSCRIBE_DENIED /service/a",
		} {
			res := w.get(path)
			if want == "" {
				if res.StatusCode != http.StatusOK {
					t.Errorf("%s: status %d, %s", path, res.StatusCode, res.text)
				}
				continue
			}
			if got := fmt.Sprint(res.object["reason"], " ", res.object["channel"]); res.StatusCode != http.StatusForbidden || got != want {
				t.Errorf("%s: status %d, %s", path, res.StatusCode, res.text)
			}
		}
		for path, want := range map[string]string{
			"/channels/open/a":                    "",
			"/channels/members/a":                 "PUBLISH_DENIED /members/a",
			"/channels/x":                         "PUBLISH_DENIED /x",
			"/channels/presence/open/a":           "PUBLISH_DENIED /presence/open/a",
			"/channels/open/a?since=0&channel=/x": "SUBSCRIBE_DENIED /x",
		} {
			res := w.post(path, "1")
			if want == "" {
				if res.StatusCode != http.StatusOK {
					t.Errorf("%s: status %d, %s", path, res.StatusCode, res.text)
				}
				continue
			}
			if got := fmt.Sprint(res.object["reason"], " ", res.object["channel"]); res.StatusCode != http.StatusForbidden || got != want {
				t.Errorf("%s: status %d, %s", path, res.StatusCode, res.text)
			}
		}
		if res := w.post("/channels/open/a", `"`+strings.Repeat("x", 100)+`"`); res.StatusCode != http.StatusRequestEntityTooLarge || res.object["reason"] != "MESSAGE_TOO_LARGE" {
			t.Errorf("status %d, %s", res.StatusCode, res.text)
		}
		s, _ := w.open("ws", "/channels/open/a")
		s.say(`{"channel":"/x","data":1}`)
		if u := s.next(); u.object["reason"] != "PUBLISH_DENIED" {
			t.Errorf("got %s", u.raw)
		}
		f := w.begin("frame", "/channels/x")
		if u := f.next(); u.kind() != "end" || u.object["reason"] != "denied" {
			t.Errorf("a frame gets %+v", u)
		}
		f.ends()
		s.close()
		w.end(fmt.Errorf("over"))
	})
}
