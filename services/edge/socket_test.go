package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/run"
)

func TestSocket(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		k := w.socket()
		reply := k.handshake(nil)
		if got := fmt.Sprint(reply["supportedConnectionTypes"]); got != "[websocket long-polling]" {
			t.Errorf("offered %s", got)
		}
		k.want(k.ask(message{"channel": "/meta/subscribe", "subscription": "/a"}))
		w.broker.publish("/a", "1")
		if got := k.events(); got != "/a=1" {
			t.Errorf("before the first connect: %q", got)
		}
		k.want(k.ask(onSocket()))
		k.hold()
		w.broker.publish("/a", "2")
		w.broker.publish("/a", "3")
		if got := k.events(); got != "/a=2 /a=3" {
			t.Errorf("got %q", got)
		}
		answer := k.ask(message{"channel": "/b", "data": 1}, message{"channel": "/meta/unsubscribe", "subscription": "/a"})
		k.want(answer)
		if len(answer) != 2 {
			t.Errorf("two replies came as %v", answer)
		}
		if got := []float64{w.value("comet_edge_sockets"), w.value("comet_edge_connects_held"), w.value("comet_edge_deliveries_total")}; got[0] != 1 || got[1] != 1 || got[2] != 3 {
			t.Errorf("counted %v sockets, held connects and deliveries", got)
		}
		time.Sleep(30*time.Second + 2*deadlineSlack)
		if frames := k.take(); len(frames) != 1 || frames[0][0]["channel"] != "/meta/connect" {
			t.Errorf("after the timeout: %v", frames)
		}
		k.leave()
		w.wantQuiet()
	})
}

// Faye's clients open a socket to see whether it works, handshake by HTTP, and
// go on with that session on the socket.
func TestSocketOfAnotherHandshake(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		k := w.socket()
		time.Sleep(10 * time.Second)
		c := w.client()
		c.handshake()
		k.clientID = c.clientID
		k.want(k.ask(message{"channel": "/meta/subscribe", "subscription": "/a"}))
		k.want(k.ask(onSocket()))
		k.hold()
		w.broker.publish("/a", "1")
		if got := k.events(); got != "/a=1" {
			t.Errorf("got %q", got)
		}
		if got := transportOf(w); got != "websocket" {
			t.Errorf("presence says %q", got)
		}
		time.Sleep(3 * time.Second) // until a pong has said that 1 arrived
		k.leave()
		w.broker.publish("/a", "2")
		if events, _ := c.connect(); summary(events) != "/a=2" {
			t.Errorf("after the socket: %v", events)
		}
		if got := transportOf(w); got != "long-polling" {
			t.Errorf("presence says %q", got)
		}
	})
}

func transportOf(w *world) string {
	for id := range (*presence)(w.service).Sessions() {
		state, _ := (*presence)(w.service).State(id)
		return state.GetTransport()
	}
	return "nothing"
}

func TestSocketOfAnotherSession(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		k := w.socket()
		if reply := k.ask(message{"channel": "/meta/connect", "clientId": "nobody"})[0]; reply["error"] != "402::session_unknown" ||
			reply["advice"] == nil {
			t.Errorf("unknown: %v", reply)
		}
		other := w.client().open("/a")
		k.open("/b")
		for _, m := range []message{
			{"channel": "/b", "data": 1, "clientId": other.clientID},
			{"channel": "/meta/connect", "clientId": other.clientID},
		} {
			if reply := k.ask(m)[0]; reply["error"] != "402::session_unknown" {
				t.Errorf("%v: %v", m, reply)
			}
		}
		old := k.clientID
		k.open("/c") // a handshake binds another session
		w.broker.publish("/b", "1")
		w.broker.publish("/c", "2")
		if got := k.events(); got != "/c=2" || k.clientID == old {
			t.Errorf("got %q", got)
		}
		next := w.socket() // of the old session's client
		next.clientID = old
		next.write(onSocket())
		if got := next.events(); got != "/b=1" {
			t.Errorf("the old session got %q", got)
		}
	})
}

func TestSocketMisused(t *testing.T) {
	for _, tt := range []struct {
		name string
		op   ws.OpCode
		text string
		want ws.StatusCode // 0: it stays open
	}{
		{"empty array", ws.OpText, `[]`, 0},
		{"malformed", ws.OpText, `[{"channel"`, ws.StatusInvalidFramePayloadData},
		{"no messages", ws.OpText, `[1]`, ws.StatusInvalidFramePayloadData},
		{"nothing", ws.OpText, ``, ws.StatusInvalidFramePayloadData},
		{"not UTF-8", ws.OpText, "[{\"channel\":\"\xff\"}]", ws.StatusInvalidFramePayloadData},
		{"too many", ws.OpText, "[" + strings.Repeat(`{"channel":"/a"},`, 9_999) + `{"channel":"/a"}]`, ws.StatusMessageTooBig},
		{"binary", ws.OpBinary, `[]`, ws.StatusUnsupportedData},
		{"too large", ws.OpText, `[{"channel":"/a","data":"` + strings.Repeat("x", 2<<20) + `"}]`, ws.StatusMessageTooBig},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, Config{}, func(w *world) {
				k := w.socket().open("/a")
				k.raw(tt.op, []byte(tt.text))
				if tt.want != 0 {
					if got := k.closed(); got != tt.want {
						t.Errorf("closed with %d, want %d", got, tt.want)
					}
					synctest.Wait()
					if w.value("comet_edge_sockets") != 0 || w.value("comet_edge_connects_held") != 0 {
						t.Error("the socket is still counted")
					}
					return
				}
				if frames := k.take(); len(frames) != 0 || !k.isOpen() {
					t.Errorf("open: %v, got %v", k.isOpen(), frames)
				}
			})
		})
	}
}

func TestSocketUpgrade(t *testing.T) {
	inWorld(t, Config{AllowedOrigins: []string{"https://app.test"}}, func(w *world) {
		for origin, want := range map[string]bool{"": true, "https://app.test": true, "https://edge.test": true, "https://evil.test": false, "null": false} {
			header := http.Header{}
			if origin != "" {
				header.Set("Origin", origin)
			}
			k, err := w.dial(header)
			if (err == nil) != want {
				t.Errorf("origin %q: %v", origin, err)
			}
			if err == nil {
				k.leave()
			}
		}
		k, err := w.dial(nil, "bayeux", "other")
		if err != nil || k.protocol != "bayeux" {
			t.Errorf("subprotocol: %v", err)
		}
		r, _ := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://edge.test/cometd", nil)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		res, err := w.client().http.Do(r)
		if err != nil || res.StatusCode/100 != 4 {
			t.Fatalf("a bad upgrade: %v, %v", res, err)
		}
		_ = res.Body.Close()
		k.leave()
		if n := w.value("comet_edge_sockets"); n != 0 {
			t.Errorf("%v sockets are open", n)
		}
	})
}

// The reply that frees the held connect comes before the disconnect's: CometD's
// client closes the socket only then.
func TestSocketDisconnect(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		k := w.socket().open("/a")
		k.write(message{"channel": "/meta/disconnect"})
		start := time.Now()
		var all []message
		for _, f := range k.take() {
			all = append(all, f...)
		}
		if got := channelsOf(all); got != "/meta/connect /meta/disconnect" {
			t.Fatalf("got %v", all)
		}
		if advice, _ := all[0]["advice"].(map[string]any); advice["reconnect"] != "none" {
			t.Errorf("the connect says %v", all[0])
		}
		if code := k.closed(); code != ws.StatusNormalClosure {
			t.Errorf("closed with %d", code)
		}
		if took := time.Since(start); took < linger || took > time.Second {
			t.Errorf("closed after %v", took)
		}

		k = w.socket().open("/a")
		k.write(message{"channel": "/meta/disconnect"})
		k.take()
		k.open("/a") // another session in time
		time.Sleep(20 * time.Second)
		if !k.isOpen() {
			t.Error("the socket of the next session was closed")
		}
	})
}

func TestSocketIdle(t *testing.T) {
	inWorld(t, Config{Heartbeat: 10 * time.Second}, func(w *world) {
		idle, used := w.socket(), w.socket()
		used.handshake(nil)
		for range 10 {
			used.write(onSocket())
			time.Sleep(4 * time.Second)
			used.write(message{"channel": "/x", "data": 1})
		}
		if idle.closed() != ws.StatusNormalClosure || idle.pinged() != 1 {
			t.Errorf("the idle socket had %d pings", idle.pinged())
		}
		if !used.isOpen() || used.pinged() < 3 {
			t.Errorf("open: %v, %d pings", used.isOpen(), used.pinged())
		}
		if w.value("comet_edge_cuts_total") != 1 {
			t.Errorf("%v cuts", w.value("comet_edge_cuts_total"))
		}
	})
}

func TestSocketDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, namespace.Open())
		w.start()
		var all []*socketClient
		for range 5 {
			all = append(all, w.socket().open("/a"))
		}
		bare := w.socket()
		start := time.Now()
		w.stop(run.ErrDraining)
		first, last := time.Hour, time.Duration(0)
		for i, k := range all {
			if code := k.closed(); code != 1012 {
				t.Errorf("socket %d closed with %d", i, code)
			}
			frames := k.take()
			if len(frames) != 1 {
				t.Fatalf("socket %d got %v", i, frames)
			}
			advice, _ := frames[0][0]["advice"].(map[string]any)
			if interval, _ := advice["interval"].(float64); interval < 500 || interval > 1000 {
				t.Errorf("socket %d was told %v, so it may come back before it is closed", i, advice)
			}
			took := time.Since(start)
			first, last = min(first, took), max(last, took)
		}
		if code := bare.closed(); code != 1012 {
			t.Errorf("the bare socket closed with %d", code)
		}
		if last > 4*time.Second {
			t.Errorf("closed from %v to %v", first, last)
		}
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
	})
}

// With the ack extension a cut must not tear events from the reply that numbers
// them.
func TestSocketAck(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		k := w.socket()
		k.handshake(message{"ack": true})
		k.want(k.ask(message{"channel": "/meta/subscribe", "subscription": "/a"}))
		m := onSocket()
		m["ext"] = message{"ack": 0}
		k.want(k.ask(m))
		m = onSocket()
		m["ext"] = message{"ack": 1}
		k.write(m)
		w.broker.publish("/a", "1")
		frames := k.take()
		if len(frames) != 1 || channelsOf(frames[0]) != "/a /meta/connect" {
			t.Fatalf("got %v", frames)
		}
		k.leave() // not acknowledged: it comes again
		k = w.resume(k)
		m = onSocket()
		m["ext"] = message{"ack": 1}
		m["advice"] = message{"timeout": 0}
		if frame := k.ask(m); channelsOf(frame) != "/a /meta/connect" {
			t.Errorf("again: %v", frame)
		}
	})
}

// resume opens another socket for the session of one.
func (w *world) resume(k *socketClient) *socketClient {
	next := w.socket()
	next.clientID, next.id = k.clientID, k.id
	return next
}

// A vanished client's session lives on for MaxInterval.
func TestSocketGone(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		k := w.socket().open("/a")
		k.leave()
		if w.value("comet_edge_connects_held") != 0 {
			t.Error("the connect is still held")
		}
		time.Sleep(9 * time.Second)
		w.broker.publish("/a", "1")
		k = w.resume(k)
		k.write(onSocket())
		var all []message
		for _, f := range k.take() {
			all = append(all, f...)
		}
		if !strings.Contains(summary(all), "/a=1") {
			t.Errorf("resumed: %v", all)
		}
		k.leave()
		time.Sleep(11 * time.Second)
		if w.value("comet_edge_sessions") != 0 {
			t.Error("the session is still there")
		}
	})
}

// What was pushed comes again on the next socket if no pong has said that it
// arrived, and only then.
func TestSocketUnconfirmed(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		k := w.socket().open("/a")
		w.broker.publish("/a", "1")
		w.broker.publish("/a", "2")
		if got, pings := k.events(), k.pinged(); got != "/a=1 /a=2" || pings != 0 {
			t.Fatalf("got %q and %d pings", got, pings)
		}
		time.Sleep(3 * time.Second)
		if pings := k.pinged(); pings != 1 {
			t.Errorf("%d pings after the events, want 1", pings)
		}
		k.mute()
		w.broker.publish("/a", "3")
		w.broker.publish("/a", "4")
		if got, pings := k.events(), k.pinged(); got != "/a=3 /a=4" || pings != 1 {
			t.Errorf("got %q and %d pings", got, pings)
		}
		time.Sleep(3 * time.Second)
		k.leave()
		w.broker.publish("/a", "5")
		k = w.resume(k)
		k.write(onSocket())
		var all []message
		for _, f := range k.take() {
			all = append(all, f...)
		}
		if got := summary(all); !strings.Contains(got, "/a=3 /a=4 /a=5") || strings.Contains(got, "/a=2") {
			t.Errorf("on the next socket: %s", got)
		}
	})
}

func TestSocketLimits(t *testing.T) {
	inWorld(t, Config{MaxSessions: 2, Requests: 1, Publishes: 2}, func(w *world) {
		k := w.socket().open("/a")
		other := w.socket()
		if _, err := w.dial(nil); err == nil {
			t.Error("a third socket was opened")
		}
		other.leave()
		w.socket().leave()

		w.broker.set(true)
		for range 3 {
			k.write(message{"channel": "/meta/subscribe", "subscription": "/away"})
		}
		frames := k.take()
		if len(frames) != 1 || !strings.HasPrefix(fmt.Sprint(frames[0][0]["error"]), "429:") {
			t.Errorf("the third request got %v", frames)
		}
	})
}

// A client that does not read is kept waiting, then cut, and finds out what it
// missed when it comes again.
func TestSocketSlow(t *testing.T) {
	inWorld(t, Config{QueueMessages: 100, QueueBytes: 256 << 10}, func(w *world) {
		k := w.socket().open("/a")
		readOn := k.stopReading()
		data := `"` + strings.Repeat("x", 10_000) + `"`
		for range 200 {
			w.broker.publish("/a", data)
		}
		synctest.Wait()
		if w.value("comet_edge_dropped_total") == 0 {
			t.Error("nothing was dropped")
		}
		time.Sleep(15 * time.Second)
		readOn()
		k.leave()
		if w.value("comet_edge_sockets") != 0 {
			t.Error("the socket is still open")
		}
		k = w.resume(k)
		k.write(onSocket())
		var resync any
		for _, f := range k.take() {
			for _, m := range f {
				if m["channel"] == "/meta/connect" {
					resync = m["ext"]
				}
			}
		}
		if !strings.Contains(fmt.Sprint(resync), "/a") {
			t.Errorf("the client was told %v", resync)
		}
	})
}

// A client that asks for more than it reads is cut.
func TestSocketFlood(t *testing.T) {
	inWorld(t, Config{QueueBytes: 64 << 10}, func(w *world) {
		k := w.socket()
		readOn := k.stopReading()
		batch := []byte("[" + strings.Repeat(`{"channel":"/a"},`, 999) + `{"channel":"/a"}]`)
		frames := 0
		for ; frames < 100 && w.value("comet_edge_cuts_total") == 0; frames++ {
			k.raw(ws.OpText, batch)
			synctest.Wait()
		}
		if frames > 10 {
			t.Errorf("cut after %d frames", frames)
		}
		time.Sleep(w.service.cfg.WriteTimeout + time.Second)
		if w.value("comet_edge_sockets") != 0 {
			t.Error("the socket is still open")
		}
		readOn()
		k.leave()
	})
}

// A held connect that would be answered before the next ping is answered in
// place of this one.
func TestSocketConnectInPlaceOfPing(t *testing.T) {
	for name, test := range map[string]struct {
		heartbeat, after time.Duration
		pinged           bool
	}{"soon due": {25 * time.Second, 25 * time.Second, false}, "not for long": {8 * time.Second, 24 * time.Second, true}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Config{Heartbeat: test.heartbeat, PollTimeout: 30 * time.Second}, func(w *world) {
				k := w.socket().open()
				start := time.Now()
				for len(k.take()) == 0 {
					time.Sleep(time.Second)
				}
				if took := time.Since(start); took < test.after || took > test.after+2*time.Second {
					t.Errorf("answered after %v, want %v", took, test.after)
				}
				if pinged := k.pinged() > 0; pinged != test.pinged {
					t.Errorf("%d pings", k.pinged())
				}
			})
		})
	}
}
