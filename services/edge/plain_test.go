package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/services/edge/internal/channels"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

func streams() []string { return []string{"sse", "stream", "multipart", "frame", "ws"} }

// inEveryStream runs a test for each transport that streams.
func inEveryStream(t *testing.T, cfg Config, test func(w *world, transport string)) {
	t.Helper()
	for _, transport := range streams() {
		t.Run(transport, func(t *testing.T) {
			inWorld(t, cfg, func(w *world) { test(w, transport) })
		})
	}
}

func TestStreamDelivers(t *testing.T) {
	inEveryStream(t, Config{}, func(w *world, transport string) {
		began := time.Now()
		s, open := w.open(transport, "/channels/a/b")
		if open.object["heartbeat"] != 25.0 || open.cursor() == "" {
			w.t.Errorf("open %v", open.object)
		}
		if took := time.Since(began); took != 0 {
			w.t.Errorf("open came after %v", took)
		}
		var want []string
		for i := range 20 {
			w.broker.publish("/a/b", fmt.Sprintf(`{"n":%d,"s":"<&>"}`, i))
			want = append(want, fmt.Sprintf(`/a/b={"n":%d,"s":"\u003c\u0026\u003e"}`, i))
			w.broker.publish("/a/c", "0")
		}
		if got := s.messages(20); got != strings.Join(want, " ") {
			w.t.Errorf("got %s", got)
		}
		s.close()
		w.wantQuiet()
		if got := w.value("comet_edge_deliveries_total"); got != 20 {
			w.t.Errorf("counted %v deliveries", got)
		}
		if got := w.value("comet_edge_readers"); got != 0 {
			w.t.Errorf("%v readers are left", got)
		}
	})
}

func TestSeveralChannelsAndPatterns(t *testing.T) {
	inEveryStream(t, Config{}, func(w *world, transport string) {
		s, open := w.open(transport, "/channels?channel=/a&channel=/b/**&channel=/b/c&channel=/a")
		if !strings.HasPrefix(open.cursor(), "~") {
			w.t.Errorf("cursor %q", open.cursor())
		}
		for i, channel := range []string{"/a", "/b/c", "/x", "/b/d/e", "/a"} {
			w.broker.publish(channel, fmt.Sprint(i))
		}
		if got := s.messages(4); got != "/a=0 /b/c=1 /b/d/e=3 /a=4" {
			w.t.Errorf("got %s", got)
		}
		time.Sleep(11 * time.Second)
		if u := s.next(); u.kind() != "cursor" || !strings.HasPrefix(u.cursor(), "~") {
			w.t.Errorf("got %+v", u)
		}
	})
}

func TestResumeByCursor(t *testing.T) {
	for _, channels := range []string{"/channels/a", "/channels?channel=/a&channel=/b", "/channels/**"} {
		inEveryStream(t, Config{Heartbeat: time.Second}, func(w *world, transport string) {
			s, _ := w.open(transport, channels)
			w.broker.publish("/a", "1")
			s.messages(1)
			u := s.next() // a heartbeat
			if u.kind() != "heartbeat" && u.kind() != "cursor" {
				w.t.Fatalf("got %+v", u)
			}
			s.close()
			for i := range 40 {
				w.broker.publish("/a", fmt.Sprint(i+2))
			}
			join := "?"
			if strings.Contains(channels, "?") {
				join = "&"
			}
			s, open := w.open(transport, channels+join+"since="+u.cursor())
			for i := range 40 {
				if got, want := s.messages(1), fmt.Sprintf("/a=%d", i+2); got != want {
					w.t.Fatalf("got %s, want %s", got, want)
				}
			}
			if open.cursor() != u.cursor() {
				w.t.Errorf("open at %s, want %s", open.cursor(), u.cursor())
			}
		})
	}
}

func TestLastEventID(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		s, open := w.open("sse", "/channels/a")
		if open.retry != "2000" || open.name != "comet" || open.id != open.cursor() {
			w.t.Errorf("open %+v", open)
		}
		for i := range 3 {
			w.broker.publish("/a", fmt.Sprint(i))
		}
		first := s.next()
		if want := fmt.Sprint(first.object["position"]); first.id != want || first.name != "" {
			w.t.Errorf("a message is %q", first.raw)
		}
		s.close()
		s, _ = w.open("sse", "/channels/a?since=latest", "Last-Event-ID", first.id)
		if got := s.messages(2); got != "/a=1 /a=2" {
			w.t.Errorf("got %s", got)
		}
		if res := w.get("/channels/a?transport=sse", "Last-Event-ID", "x"); res.StatusCode != http.StatusBadRequest || res.object["reason"] != "CURSOR_INVALID" {
			w.t.Errorf("status %d, %s", res.StatusCode, res.text)
		}
		s, _ = w.open("stream", "/channels/a?since=latest", "Last-Event-ID", first.id)
		w.broker.publish("/a", "9")
		if got := s.messages(1); got != "/a=9" {
			w.t.Errorf("a stream went by Last-Event-ID: %s", got)
		}
	})
}

func TestSeveralChannelsHaveNoEventID(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		s, open := w.open("sse", "/channels/a/*")
		w.broker.publish("/a/b", "1")
		if u := s.next(); strings.Contains(u.raw, "id:") || open.id != open.cursor() {
			w.t.Errorf("got %q after %q", u.raw, open.raw)
		}
	})
}

func TestResyncOnStreams(t *testing.T) {
	inEveryStream(t, Config{}, func(w *world, transport string) {
		for range 3 {
			w.broker.publish("/a", "0")
		}
		synctest.Wait()
		s, _ := w.open(transport, "/channels/a?since=999")
		u := s.next()
		if u.kind() != "resync" || fmt.Sprint(u.object["channels"]) != "[/a]" || u.cursor() != "3" {
			w.t.Errorf("got %+v", u)
		}
		w.broker.publish("/a", "1")
		if got := s.messages(1); got != "/a=1" {
			w.t.Errorf("got %s", got)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	inEveryStream(t, Config{Heartbeat: 2 * time.Second}, func(w *world, transport string) {
		s, open := w.open(transport, "/channels/a")
		if open.object["heartbeat"] != 2.0 {
			w.t.Errorf("open %v", open.object)
		}
		last := time.Now()
		for i := range 5 {
			if i == 2 {
				time.Sleep(time.Second)
				w.broker.publish("/a", "1")
				s.messages(1)
				last = time.Now()
			}
			u := s.next()
			if gap := time.Since(last); u.kind() != "heartbeat" || gap < 2*time.Second || gap > 2200*time.Millisecond {
				w.t.Errorf("%+v after %v", u, gap)
			}
			if want := map[bool]string{true: "1", false: "0"}[i >= 2]; u.cursor() != want {
				w.t.Errorf("cursor %q, want %s", u.cursor(), want)
			}
			last = time.Now()
		}
	})
}

func TestStreamsEndOnDrain(t *testing.T) {
	inEveryStream(t, Config{}, func(w *world, transport string) {
		const n = 20
		var all []*stream
		for range n {
			s, _ := w.open(transport, "/channels/a")
			all = append(all, s)
		}
		began := time.Now()
		w.stop(run.ErrDraining)
		ends := make(chan time.Duration, n)
		for _, s := range all {
			go func() {
				u := s.next()
				if u.kind() != "end" || u.object["reason"] != "draining" || u.cursor() != "0" {
					w.t.Errorf("got %+v", u)
				}
				if retry, _ := u.object["retry"].(float64); retry < 100 || retry > 1000 {
					w.t.Errorf("retry %v", retry)
				}
				if transport == "sse" && u.retry != fmt.Sprint(u.object["retry"]) {
					w.t.Errorf("event %q", u.raw)
				}
				ends <- time.Since(began)
				s.ends()
			}()
		}
		early := 0
		for range n {
			if <-ends < time.Second {
				early++
			}
		}
		if early == 0 || early == n {
			w.t.Errorf("%d of %d streams ended in the first half of the window", early, n)
		}
		if err := <-w.ended; err != nil {
			w.t.Error(err)
		}
		w.ended <- nil
	})
}

// A socket says by its closing code why it ends.
func TestSocketClosesWithACode(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		s, _ := w.open("ws", "/channels/a")
		w.stop(run.ErrDraining)
		s.next()
		_, err := s.read()
		if err == nil || !strings.Contains(err.Error(), "1012") {
			w.t.Errorf("got %v", err)
		}
		if err := <-w.ended; err != nil {
			w.t.Error(err)
		}
		w.ended <- nil
	})
}

func TestStreamHeads(t *testing.T) {
	cfg := Config{AllowedOrigins: []string{"https://app.example", "https://*.example.org"}}
	inWorld(t, cfg, func(w *world) {
		for transport, kind := range map[string]string{
			"sse": "text/event-stream", "stream": "application/x-ndjson",
			"multipart": "multipart/x-mixed-replace; boundary=comet", "frame": "text/html; charset=utf-8",
		} {
			s, _ := w.open(transport, "/channels/a", "Origin", "https://app.example")
			for name, want := range map[string]string{
				"Content-Type": kind, "Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no",
				"X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "https://app.example",
			} {
				if got := s.header.Get(name); got != want {
					w.t.Errorf("%s: %s is %q, want %q", transport, name, got, want)
				}
			}
			if transport != "frame" {
				continue
			}
			if got := s.header.Get("Content-Security-Policy"); got != "frame-ancestors 'self' https://app.example https://*.example.org" {
				w.t.Errorf("policy %q", got)
			}
			if got := s.header.Get("Referrer-Policy"); got != "no-referrer" {
				w.t.Errorf("Referrer-Policy %q", got)
			}
			if !strings.Contains(s.head, "parent.comet") {
				w.t.Errorf("head %q", s.head)
			}
		}
	})
}

func TestPadding(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		for path, want := range map[string]int{"": 0, "?padding=0": 0, "?padding=4096": 4096} {
			_, open := w.open("stream", "/channels/a"+path)
			filler, _ := open.object["padding"].(string)
			if len(filler) != want {
				w.t.Errorf("%s: %d bytes", path, len(filler))
			}
		}
		if _, open := w.open("frame", "/channels/a"); len(open.raw) < 1024 {
			w.t.Errorf("a frame opens with %d bytes", len(open.raw))
		}
	})
}

func TestFrameReloads(t *testing.T) {
	inWorld(t, Config{FrameMaxBytes: 2000}, func(w *world) {
		s, _ := w.open("frame", "/channels/a?callback=app.take")
		if !strings.Contains(s.head, "parent.app.take") {
			w.t.Errorf("head %q", s.head)
		}
		for i := range 40 {
			w.broker.publish("/a", fmt.Sprintf(`"%d%s"`, i, strings.Repeat("x", 50)))
		}
		last := ""
		for {
			u := s.next()
			if u.object == nil {
				if !strings.Contains(u.raw, last) {
					w.t.Errorf("reloads with %q, last was %s", u.raw, last)
				}
				break
			}
			last = fmt.Sprint(u.object["position"])
		}
		s.ends()
	})
}

func TestSlowStreamIsCut(t *testing.T) {
	inWorld(t, Config{QueueBytes: 100_000, WriteTimeout: time.Hour}, func(w *world) {
		w.open("stream", "/channels/a") // and does not read on
		for range 300 {
			w.broker.publish("/a", `"`+strings.Repeat("x", 1000)+`"`)
		}
		synctest.Wait()
		if got := w.value("comet_edge_readers_ended_total"); got != 1 {
			w.t.Errorf("%v readers ended", got)
		}
		if got := w.value("comet_edge_dropped_total"); got == 0 {
			w.t.Error("nothing was counted as dropped")
		}
	})
}

func TestReadersTakeRoom(t *testing.T) {
	inWorld(t, Config{MaxSessions: 2}, func(w *world) {
		s, _ := w.open("sse", "/channels/a")
		w.client().handshake()
		for _, path := range []string{"/channels/a?transport=sse", "/channels/a", "/channels/a?transport=stream"} {
			res := w.get(path)
			if res.StatusCode != http.StatusTooManyRequests || res.object["reason"] != "LIMIT_EXCEEDED" || res.Header.Get("Retry-After") == "" {
				w.t.Errorf("%s: status %d, %s", path, res.StatusCode, res.text)
			}
		}
		if u := w.begin("frame", "/channels/a").next(); u.kind() != "end" || u.object["reason"] != "limit" {
			w.t.Errorf("a frame gets %+v", u)
		}
		s.close()
		synctest.Wait()
		w.open("sse", "/channels/a")
	})
}

func TestBrokersAreDown(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		w.broker.set(true)
		for _, transport := range []string{"sse", "poll", "long-poll"} {
			res := w.get("/channels/a?transport=" + transport)
			if res.StatusCode != http.StatusServiceUnavailable || res.object["reason"] != "UNAVAILABLE" || res.Header.Get("Retry-After") == "" {
				w.t.Errorf("%s: status %d, %s", transport, res.StatusCode, res.text)
			}
		}
		w.wantQuiet()
	})
}

// A request that comes while the drain begins is ended, before or after it was
// started.
func TestDrainMissesNoReader(t *testing.T) {
	for _, transport := range []channels.Transport{channels.SSE, channels.LongPoll} {
		c := newCrowd(t, 0, "/a")
		d := c.service.plain
		r, p := d.admit(&plain.Request{
			Shape: shapeOf(transport), Channels: []string{"/a"}, Encoding: transport.Encoding(), Limit: 1,
		})
		if p != nil {
			t.Fatal(p)
		}
		d.draining.Store(true)
		if transport.Once() {
			d.answerBy(r, &channels.Exchange{Exchange: hold.New(1)}, true)
		} else {
			r.stream = hold.NewStream(1, r)
			d.keep(r)
		}
		if r.start(); r.plain.Ended() == "" {
			t.Errorf("%s was missed", transport)
		}
		if _, p := d.Stream(t.Context(), 2, &channels.Request{Channels: []string{"/a"}}); p == nil || p.Reason != "DRAINING" {
			t.Errorf("got %v", p)
		}
	}
}

func TestSlowPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, namespace.Open(),
			namespace.Options{Pattern: "/oldest/*", Slow: namespace.DropOldest},
			namespace.Options{Pattern: "/newest/*", Slow: namespace.Conflate},
		)
		for channel, want := range map[string]plain.Policy{
			"/oldest/a": plain.DropOldest, "/newest/a": plain.Conflate, "/a": plain.Recover,
		} {
			if got := w.service.plain.policy(channel); got != want {
				t.Errorf("%s: policy %d", channel, got)
			}
		}
	})
}
