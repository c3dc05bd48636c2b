package edge

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
)

func TestPublishReachesSubscribers(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		literal := w.client().open("/a/b")
		pattern := w.client().open("/a/**", "/a/*", "/a/b")
		other := w.client().open("/x")
		polls := []*poll{literal.poll(w.t.Context()), pattern.poll(w.t.Context()), other.poll(w.t.Context())}

		publisher := w.client().open()
		start := time.Now()
		if reply := publisher.publish("/a/b", 1); reply["successful"] != true || reply["data"] != nil {
			t.Errorf("reply %v", reply)
		}
		for i, want := range []string{"/a/b=1", "/a/b=1", ""} {
			if got := summary(polls[i].events(t)); got != want {
				t.Errorf("client %d got %q, want %q", i, got, want)
			}
		}
		if held := time.Since(start); held.Truncate(time.Second) != 30*time.Second {
			t.Errorf("a poll without news was held %v", held)
		}
		if got := w.value("comet_edge_deliveries_total"); got != 2 {
			t.Errorf("counted %v deliveries", got)
		}
		if got := w.value("comet_edge_commit_to_socket_seconds"); got != 2 {
			t.Errorf("measured %v answers", got)
		}
		w.wantQuiet()
	})
}

// What is published between two polls comes with the next one, once, in order.
func TestNothingIsLostBetweenPolls(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open("/a")
		var want []string
		for i := range 20 {
			w.broker.publish("/a", fmt.Sprint(i))
			want = append(want, fmt.Sprintf("/a=%d", i))
		}
		synctest.Wait()
		events, _ := c.connect()
		if got := summary(events); got != strings.Join(want, " ") {
			t.Errorf("got %s", got)
		}
		next := c.poll(w.t.Context())
		w.broker.publish("/a", `"next"`)
		if got := summary(next.events(t)); got != `/a="next"` {
			t.Errorf("got %s", got)
		}
	})
}

func TestOneJoinForManySessions(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		var all []*browserClient
		for range 10 {
			all = append(all, w.client().open("/a"))
		}
		if w.broker.joins != 1 {
			t.Errorf("joined %d times", w.broker.joins)
		}
		for _, c := range all {
			c.want(c.send(message{"channel": "/meta/unsubscribe", "subscription": "/a"}))
		}
		w.letChannelsGo()
		if len(w.broker.joined) != 0 || w.value("comet_edge_channels") != 0 {
			t.Errorf("still joined: %v", w.broker.joined)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, namespace.Closed(),
			namespace.Options{Pattern: "/open/**", Subscribe: namespace.Anyone, Publish: namespace.Anyone, MaxMessageBytes: 100},
			namespace.Options{Pattern: "/read/**", Subscribe: namespace.Anyone},
			namespace.Options{Pattern: "/users/**", Subscribe: namespace.Sessions, Publish: namespace.Sessions})
		w.start()
		c := w.client().open("/open/a", "/read/a")
		for _, tt := range []struct {
			name string
			m    message
			want string
		}{
			{"subscribe", message{"channel": "/meta/subscribe", "subscription": "/closed"}, "403:denied_by_security_policy:subscribe_denied"},
			{"wider pattern", message{"channel": "/meta/subscribe", "subscription": "/**"}, "403:denied_by_security_policy:subscribe_denied"},
			{"for users", message{"channel": "/meta/subscribe", "subscription": "/users/a"}, "403:denied_by_security_policy:subscribe_denied"},
			{"private", message{"channel": "/meta/subscribe", "subscription": "/@presence/**"}, "403:denied_by_security_policy:subscribe_denied"},
			{"publish what is private", message{"channel": "/@presence/events/0", "data": 1}, "403:denied_by_security_policy:publish_denied"},
			{"publish", message{"channel": "/read/a", "data": 1}, "403:denied_by_security_policy:publish_denied"},
			{"roster of a closed channel", message{"channel": "/meta/subscribe", "subscription": "/presence/users/a"}, "403:denied_by_security_policy:subscribe_denied"},
			{"rosters", message{"channel": "/meta/subscribe", "subscription": "/presence/open/*"}, "403:denied_by_security_policy:subscribe_denied"},
			{"publish a roster", message{"channel": "/presence/open/a", "data": 1}, "403:denied_by_security_policy:publish_denied"},
			{"large", message{"channel": "/open/a", "data": strings.Repeat("x", 200)}, "413::message_too_large"},
			{"unknown session", message{"channel": "/open/a", "data": 1, "clientId": "nobody"}, "402::session_unknown"},
			{"open", message{"channel": "/open/a", "data": 1}, "<nil>"},
		} {
			if got := fmt.Sprint(c.send(tt.m)[0]["error"]); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
		if got := w.value("comet_edge_refused_total"); got != 11 {
			t.Errorf("counted %v refusals", got)
		}
		w.end(context.Canceled)
	})
}

// Brokers that cannot be reached cost an error in time, never a hanging client.
func TestBrokersAway(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open()
		w.broker.set(true)
		start := time.Now()
		reply := c.send(message{"channel": "/meta/subscribe", "subscription": "/a"})[0]
		if took := time.Since(start); reply["error"] != "503::unavailable" || took < 5*time.Second || took > 8*time.Second {
			t.Errorf("after %v: %v", took, reply)
		}
		if reply := c.publish("/a", 1); reply["error"] != "503::unavailable" {
			t.Errorf("publish: %v", reply)
		}
		c.connect()
		w.broker.set(false)
		c.want(c.send(message{"channel": "/meta/subscribe", "subscription": "/a"}))
		c.publish("/a", 2)
		if events, _ := c.connect(); summary(events) != "/a=2" {
			t.Errorf("got %v", events)
		}
	})
}

func TestReplay(t *testing.T) {
	inWorld(t, Config{RingMessages: 4}, func(w *world) {
		for i := range 30 {
			w.broker.publish("/a", fmt.Sprint(i))
		}
		replaying := func(since any) *browserClient {
			c := w.client()
			c.clientID, _ = c.send(message{
				"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []string{"long-polling"},
				"ext": message{"replay": true},
			})[0]["clientId"].(string)
			c.want(c.send(message{
				"channel": "/meta/subscribe", "subscription": "/a", "ext": message{"replay": message{"/a": since}},
			}))
			return c
		}
		check := func(name string, c *browserClient, first, last int) {
			t.Helper()
			var want []string
			for i := first; i <= last; i++ {
				want = append(want, fmt.Sprintf("/a=%d", i))
			}
			var got []message
			for range 6 {
				synctest.Wait()
				events, _ := c.connect()
				got = append(got, events...)
				if len(got) >= len(want) {
					break
				}
			}
			if summary(got) != strings.Join(want, " ") {
				t.Errorf("%s: got %s", name, summary(got))
			}
		}
		check("everything", replaying(-2), 0, 29)
		check("after a position", replaying(25), 25, 29)
		reads := w.broker.reads
		for i := 30; i < 33; i++ {
			w.broker.publish("/a", fmt.Sprint(i))
		}
		synctest.Wait()
		check("from the ring", replaying(30), 30, 32)
		if w.broker.reads != reads {
			t.Error("the broker was asked for what the ring has")
		}
	})
}

// A backend answers a message of a service channel; it is an event and a reply.
func TestDeliver(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open()
		poll := c.poll(w.t.Context())
		c.want(c.send(message{"channel": "/service/echo", "data": "ping"}))
		asked := w.broker.logs[shard.Of("/service/echo")][0]
		if !strings.HasPrefix(asked.GetSession(), shard.Hint("edge-0@e0")+"-") || asked.GetSession() == c.clientID {
			t.Errorf("session %q", asked.GetSession())
		}
		server := &deliverServer{s: w.service}
		if _, err := server.Deliver(w.t.Context(), &edgev1.DeliverRequest{
			Session: asked.GetSession(), Channel: "/service/echo", Data: []byte(`"pong"`), Id: asked.GetId(),
		}); err != nil {
			t.Fatal(err)
		}
		if got := poll.events(t)[0]; got["data"] != "pong" || got["id"] != asked.GetId() || got["successful"] != true {
			t.Errorf("got %v", got)
		}
		for _, tt := range []struct {
			req    *edgev1.DeliverRequest
			code   codes.Code
			reason channelv1.ErrorReason
		}{
			{&edgev1.DeliverRequest{Session: "nobody", Channel: "/a", Data: []byte("1")}, codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN},
			{&edgev1.DeliverRequest{Session: asked.GetSession(), Channel: "/a/*", Data: []byte("1")}, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID},
			{&edgev1.DeliverRequest{Session: asked.GetSession(), Channel: "/a", Data: []byte("{")}, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_DATA_INVALID},
			{&edgev1.DeliverRequest{Session: asked.GetSession(), Channel: "/a", Data: []byte("1"), Ext: []byte("1")}, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_DATA_INVALID},
		} {
			_, err := server.Deliver(w.t.Context(), tt.req)
			if status.Code(err) != tt.code || rpc.Reason(err) != tt.reason {
				t.Errorf("%v: %v", tt.req, err)
			}
		}
	})
}

// The second tab of a browser is not held, until the first lets go.
func TestTabs(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		first := w.client().open()
		second := first.tab().open()
		stranger := w.client().open()
		ctx, closeTab := context.WithCancel(w.t.Context())
		poll := first.poll(ctx)
		_, reply := second.connect()
		advice, _ := reply["advice"].(map[string]any)
		if advice["multiple-clients"] != true || advice["interval"] != 2000.0 || reply["successful"] != true {
			t.Errorf("the second tab got %v", reply)
		}
		other := stranger.poll(w.t.Context())
		if got := w.value("comet_edge_connects_held"); got != 2 {
			t.Errorf("%v connects are held", got)
		}
		closeTab()
		if <-poll.done; poll.err == nil {
			t.Error("the first tab was answered")
		}
		synctest.Wait()
		start := time.Now()
		second.connect()
		if held := time.Since(start); held.Truncate(time.Second) != 30*time.Second {
			t.Errorf("alone, the second tab was held %v", held)
		}
		other.events(t)
		w.wantQuiet()
	})
}

func TestNewestConnectWins(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open("/a")
		older := c.poll(w.t.Context())
		newer := c.poll(w.t.Context())
		if <-older.done; older.status != http.StatusServiceUnavailable || older.err != nil {
			t.Errorf("the older connect got %d, %v", older.status, older.err)
		}
		w.broker.publish("/a", "1")
		if got := summary(newer.events(t)); got != "/a=1" {
			t.Errorf("the newer connect got %s", got)
		}
		w.wantQuiet()
	})
}

func TestFull(t *testing.T) {
	inWorld(t, Config{MaxSessions: 2}, func(w *world) {
		first := w.client().open()
		w.client().open()
		third := w.client()
		reply := third.handshake()
		advice, _ := reply["advice"].(map[string]any)
		if reply["successful"] != false || reply["error"] != "429:sessions:limit_exceeded" || advice["reconnect"] != "handshake" {
			t.Errorf("got %v", reply)
		}
		first.want(first.send(message{"channel": "/meta/disconnect"}))
		if reply := third.handshake(); reply["successful"] != true {
			t.Errorf("got %v", reply)
		}
	})
}

func TestRequestsAreBounded(t *testing.T) {
	inWorld(t, Config{Requests: 2}, func(w *world) {
		c := w.client().open()
		w.broker.set(true) // joins wait
		statuses := make(chan int, 3)
		for range 3 {
			same := &browserClient{w: w, http: c.http, clientID: c.clientID}
			go func() {
				status, _, _ := same.post(w.t.Context(), message{"channel": "/meta/subscribe", "subscription": "/a"})
				statuses <- status
			}()
			synctest.Wait()
		}
		for _, want := range []int{http.StatusTooManyRequests, http.StatusOK, http.StatusOK} {
			if got := <-statuses; got != want {
				t.Errorf("status %d, want %d", got, want)
			}
		}
		w.wantQuiet()
	})
}

func TestPublishesAreBounded(t *testing.T) {
	inWorld(t, Config{Publishes: 2}, func(w *world) {
		c := w.client().open()
		gate := make(chan struct{})
		w.broker.work <- func() { <-gate } // publishes wait
		answers := make(chan []message)
		go func() {
			_, answer, _ := c.post(w.t.Context(), message{"channel": "/a", "data": 1}, message{"channel": "/a", "data": 2}, message{"channel": "/a", "data": 3})
			answers <- answer
		}()
		synctest.Wait()
		close(gate)
		var got []string
		for _, m := range <-answers {
			got = append(got, fmt.Sprint(m["successful"], m["error"]))
		}
		if want := "true <nil> true <nil> false429:publishes:limit_exceeded"; strings.Join(got, " ") != want {
			t.Errorf("got %v", got)
		}
		c.want(c.send(message{"channel": "/a", "data": 4}))
	})
}

// A session whose client is gone expires, and its interests with it.
func TestExpiry(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open("/a")
		ctx, leave := context.WithCancel(w.t.Context())
		poll := c.poll(ctx)
		time.Sleep(time.Second)
		leave()
		<-poll.done
		time.Sleep(9 * time.Second)
		if w.value("comet_edge_sessions") != 1 {
			t.Error("the session is gone too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if w.value("comet_edge_sessions") != 0 || w.value("comet_edge_sessions_ended_total") != 1 {
			t.Errorf("the session is still there")
		}
		w.letChannelsGo()
		if len(w.broker.joined) != 0 {
			t.Errorf("still joined: %v", w.broker.joined)
		}
		if reply := c.send(connect())[0]; reply["error"] != "402::session_unknown" {
			t.Errorf("got %v", reply)
		}
		w.wantQuiet()
	})
}

// A day of idle polling: nothing piles up, nobody is lost.
func TestIdleDay(t *testing.T) {
	inWorld(t, Config{}, func(w *world) {
		c := w.client().open("/a")
		start := time.Now()
		polls := 0
		for time.Since(start) < 24*time.Hour {
			if events, reply := c.connect(); len(events) != 0 || reply["successful"] != true {
				t.Fatalf("poll %d: %v %v", polls, events, reply)
			}
			polls++
		}
		if polls != 2871 { // of 30 s and the timers' slack
			t.Errorf("%d polls in a day", polls)
		}
		w.wantQuiet()
	})
}

// A drain answers what is held over a short time, and refuses what is new,
// whether the edge stops first or its door.
func TestDrain(t *testing.T) {
	for _, edgeFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("edge first %v", edgeFirst), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, Config{}, namespace.Open())
				w.startInOrder(func(door, edge run.Component) []run.Component {
					if edgeFirst {
						return []run.Component{door, edge}
					}
					return []run.Component{edge, door}
				})
				const clients = 50
				var polls []*poll
				for range clients {
					polls = append(polls, w.client().open("/a").poll(w.t.Context()))
				}
				busy := w.client().open("/busy")
				start := time.Now()
				w.stop(run.ErrDraining)
				synctest.Wait()
				if edgeFirst {
					w.checkDraining(busy)
				}
				times := map[time.Duration]bool{}
				for _, poll := range polls {
					poll.events(t)
					advice, _ := poll.answer[0]["advice"].(map[string]any)
					interval, _ := advice["interval"].(float64)
					if poll.answer[0]["successful"] != true || advice["reconnect"] != "retry" || interval < 100 || interval > 1000 {
						t.Fatalf("got %v", poll.answer)
					}
					times[poll.at.Sub(start).Truncate(100*time.Millisecond)] = true
				}
				if took := time.Since(start); took > 3*time.Second || len(times) < 5 {
					t.Errorf("polls were answered within %v, at %d different times", took, len(times))
				}
				w.end(run.ErrDraining)
				if took := time.Since(start); took > 6*time.Second {
					t.Errorf("the drain took %v", took)
				}
				if w.value("comet_edge_sessions") != 0 || w.service.Ready() == nil {
					t.Error("sessions are left, or the edge is ready")
				}
				w.wantQuiet()
			})
		})
	}
}

// Who was sent away and is owed nothing has no session any more, or a drain would
// be asked again and again by all who do as they are told.
func TestDrainSendsAwayOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{}, namespace.Open())
		w.start()
		var clients []*browserClient
		var polls []*poll
		for range 20 {
			c := w.client().open("/a")
			clients, polls = append(clients, c), append(polls, c.poll(w.t.Context()))
		}
		w.stop(run.ErrDraining)
		time.Sleep(w.service.cfg.DrainWindow / 2)
		synctest.Wait()
		gone := 0
		for i, p := range polls {
			select {
			case <-p.done:
			default:
				continue // its turn has not come
			}
			gone++
			_, reply := clients[i].connect()
			advice, _ := reply["advice"].(map[string]any)
			interval, _ := advice["interval"].(float64)
			if reply["error"] != "402::session_unknown" || advice["reconnect"] != "handshake" || interval < 100 {
				t.Errorf("sent away, a client was answered %v", reply)
			}
			if !clients[i].closed {
				t.Error("the connection is kept")
			}
		}
		if gone == 0 || gone == len(polls) || int(w.value("comet_edge_sessions")) != len(polls)-gone {
			t.Errorf("%d of %d were sent away, and %v sessions are left", gone, len(polls), w.value("comet_edge_sessions"))
		}
		w.end(run.ErrDraining)
		w.wantQuiet()
	})
}

// checkDraining: nobody new is taken, and those who are here still get what
// they are owed, without waiting.
func (w *world) checkDraining(c *browserClient) {
	w.t.Helper()
	if w.service.Ready() == nil {
		w.t.Error("still ready")
	}
	if reply := w.client().handshake(); reply["error"] != "503::unavailable" || reply["advice"] == nil {
		w.t.Errorf("a handshake while draining: %v", reply)
	}
	start := time.Now()
	c.want(c.send(message{"channel": "/busy", "data": "last words"}))
	if !c.closed {
		w.t.Error("the connection is kept")
	}
	synctest.Wait()
	w.service.registry.find(c.clientID).drain(time.Millisecond)
	if events, _ := c.connect(); summary(events) != `/busy="last words"` || time.Since(start) > time.Millisecond {
		w.t.Errorf("got %v after %v", events, time.Since(start))
	}
}
