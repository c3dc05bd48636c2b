package edge

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestPaced has more clients come than may begin in a second: whoever is refused
// is told when to come again, in the way of its transport, and is let in then.
func TestPaced(t *testing.T) {
	inWorld(t, Config{SessionRate: 2, ResumeRate: 1}, func(w *world) {
		for range 3 { // what comes in two seconds may come at once
			w.client().open()
		}
		w.open("stream", "/channels/a")

		refused := w.client()
		reply := refused.handshake()
		advice, _ := reply["advice"].(map[string]any)
		interval, _ := advice["interval"].(float64)
		if reply["error"] != "429:session-rate:limit_exceeded" || advice["reconnect"] != "handshake" || interval < 1000 || interval > 1500 {
			t.Errorf("a handshake is answered %v", reply)
		}
		for _, path := range []string{"/channels/a?transport=stream", "/channels/a?transport=long-poll"} {
			res := w.get(path)
			again, err := strconv.Atoi(res.Header.Get("Retry-After"))
			if res.StatusCode != http.StatusTooManyRequests || res.object["reason"] != "LIMIT_EXCEEDED" || err != nil || again < 2 || again > 4 {
				t.Errorf("%s: status %d, to come again after %q, %s", path, res.StatusCode, res.Header.Get("Retry-After"), res.text)
			}
		}
		if again, err := strconv.Atoi(w.begin("sse", "/channels/a").next().retry); err != nil || again < 2500 || again > 3750 {
			t.Errorf("an EventSource is to come again after %d ms, %v", again, err)
		}
		if u := w.begin("frame", "/channels/a").next(); u.kind() != "end" || u.object["reason"] != "limit" {
			t.Errorf("a frame gets %+v", u)
		}

		time.Sleep(time.Duration(interval) * time.Millisecond)
		if reply := refused.handshake(); reply["successful"] != true {
			t.Errorf("the handshake that comes when it should is answered %v", reply)
		}
	})
}

// TestResumesArePaced shows that who goes on where it was does not wait behind
// those who are new, and that polls wait for nobody.
func TestResumesArePaced(t *testing.T) {
	inWorld(t, Config{SessionRate: 1, ResumeRate: 1}, func(w *world) {
		w.broker.publish("/a", "1")
		w.broker.publish("/a", "2")
		synctest.Wait()
		w.client().open()
		w.client().open()
		for range 2 {
			w.open("sse", "/channels/a?since=1")
		}
		if retry := w.begin("sse", "/channels/a?since=1").next().retry; retry == "" {
			t.Error("a third resume at a time is not told to come again")
		}
		for _, path := range []string{"/channels/a", "/channels/a?since=1", "/channels/a?since=1&transport=long-poll"} {
			if got := w.get(path); got.StatusCode != http.StatusOK || got.messages() == "" {
				t.Errorf("%s: status %d, %s", path, got.StatusCode, got.text)
			}
		}
	})
}
