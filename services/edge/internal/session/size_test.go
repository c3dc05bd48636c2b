package session_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// idle returns a session with one subscription and a held connect.
func idle(tb testing.TB, cfg *session.Config, now time.Time) *session.Session {
	tb.Helper()
	return idleAs(tb, cfg, "S", "public", now)
}

func idleAs(tb testing.TB, cfg *session.Config, id, publicID string, now time.Time) *session.Session {
	tb.Helper()
	var out session.Effects
	s := session.New(cfg, id, publicID, "")
	for ex, body := range []string{
		`{"id":"1","channel":"/meta/handshake","supportedConnectionTypes":["long-polling"]}`,
		`{"id":"2","channel":"/meta/connect","clientId":"` + id + `"}`,
		`{"id":"3","channel":"/meta/subscribe","clientId":"` + id + `","subscription":"/a"}`,
		`{"id":"4","channel":"/meta/connect","clientId":"` + id + `"}`,
	} {
		r := session.Request{Exchange: session.Exchange(ex + 1), Messages: decode(tb, body)}
		if _, handshake := session.Route(r.Messages); handshake {
			s.Handshake(now, r, &out)
		} else {
			s.Receive(now, r, &out)
		}
		for _, i := range out.Interests {
			s.Subscribed(now, i.Token, nil, nil, &out)
		}
		for _, a := range out.Answers {
			s.Written(now, a.Exchange, &out)
		}
		out.Reset()
	}
	if !s.Holding() {
		tb.Fatal("the connect is not held")
	}
	return s
}

func decode(tb testing.TB, body string) []bayeux.Message {
	tb.Helper()
	in, err := bayeux.Decode([]byte(body), bayeux.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

func entryOf(offset uint64) *event.Event {
	return event.New("/a", shard.Position{Slot: shard.Of("/a"), Offset: offset}, []byte(`{"price":1}`), nil, nil, time.Time{})
}

// A session that waits for news, subscribed to one channel, stays small, ids
// included; so does one that has had some.
func TestIdleSize(t *testing.T) {
	const sessions = 10_000
	for _, tt := range []struct {
		name   string
		events int
		most   int
	}{{"new", 0, 480}, {"used", 3, 520}} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, now := (session.Config{}).Defaults(), time.Now()
			events := make([]*event.Event, tt.events)
			for i := range events {
				events[i] = entryOf(uint64(i + 1))
			}
			kept := make([]*session.Session, sessions)
			before := heap()
			for i := range kept {
				id := fmt.Sprintf("%032d", i)
				kept[i] = idleAs(t, cfg, id, "edge-"+id[6:], now)
				for n, e := range events {
					reconnect(t, kept[i], now, e, session.Exchange(10+n))
				}
			}
			each := (heap() - before) / sessions
			t.Logf("a session takes %d bytes, %d of them the struct", each, session.Size)
			if each > tt.most {
				t.Errorf("a session takes %d bytes, want at most %d", each, tt.most)
			}
			runtime.KeepAlive(kept)
			runtime.KeepAlive(events)
		})
	}
}

// It is asked once a second of every session whether a record has to say more.
func TestBehindAllocates(t *testing.T) {
	cfg, now, vector := (session.Config{}).Defaults(), time.Now(), make([]uint64, shard.Slots)
	s := idle(t, cfg, now)
	reconnect(t, s, now, entryOf(1), 10)
	if got := testing.AllocsPerRun(100, func() { s.Behind(vector) }); got != 0 || s.Behind(vector) {
		t.Errorf("Behind allocates %v times and says %v", got, s.Behind(vector))
	}
}

// BenchmarkBehind asks an idle session.
func BenchmarkBehind(b *testing.B) {
	s, vector := idle(b, (session.Config{}).Defaults(), time.Now()), make([]uint64, shard.Slots)
	b.ReportAllocs()
	for b.Loop() {
		s.Behind(vector)
	}
}

// BenchmarkMove has an idle session with two channels go on elsewhere.
func BenchmarkMove(b *testing.B) {
	cfg, now := (session.Config{}).Defaults(), time.Now()
	var out session.Effects
	s := idle(b, cfg, now)
	subscribe(s, now, "/b", &out)
	handed := func(shard.Slot) uint64 { return 7 }
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		s = session.Restore(cfg, "S", "public", s.Snapshot(handed), nil, now, &out)
		for _, i := range out.Interests {
			s.Subscribed(now, i.Token, []shard.Position{{Slot: shard.Of(i.Channel), Offset: 7}}, nil, &out)
		}
	}
	if got := s.Channels(); len(got) != 2 || len(out.Replays) > 0 {
		b.Errorf("%v goes on, and asks for %v", got, out.Replays)
	}
}

// reconnect releases the held connect and holds the next.
func reconnect(tb testing.TB, s *session.Session, now time.Time, e *event.Event, ex session.Exchange) {
	tb.Helper()
	var out session.Effects
	s.Deliver(now, "/a", e, &out)
	s.Written(now, out.Answers[0].Exchange, &out)
	connect := fmt.Sprintf(`{"id":"%d","channel":"/meta/connect","clientId":"%s"}`, ex, s.ID())
	s.Receive(now, session.Request{Exchange: ex, Messages: decode(tb, connect)}, &out)
	if !s.Holding() {
		tb.Fatal("the connect is not held")
	}
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// One more session for a message costs no allocation while it is queued.
func TestDeliverAllocates(t *testing.T) {
	const queued = 500
	cfg, now := (session.Config{QueueMessages: 10 * queued}).Defaults(), time.Now()
	s := idle(t, cfg, now)
	var out session.Effects
	events := make([]*event.Event, 4*queued)
	for i := range events {
		events[i] = entryOf(uint64(i + 1))
	}
	next := 0
	deliver := func() {
		s.Deliver(now, "/a", events[next], &out)
		next++
	}
	for range queued { // the log has grown
		deliver()
	}
	if got := testing.AllocsPerRun(queued, deliver); got != 0 {
		t.Errorf("Deliver allocates %v times", got)
	}
}

// Nothing is allocated to push an event to a socket, though the effects are of
// each call.
func TestPushAllocates(t *testing.T) {
	const runs = 200
	cfg, now := (session.Config{}).Defaults(), time.Now()
	s := onSocket(t, cfg, now)
	events := make([]*event.Event, runs+1)
	for i := range events {
		events[i] = entryOf(uint64(i + 1))
		events[i].Frame(event.BayeuxText)
	}
	next, bytes := 0, 0
	got := testing.AllocsPerRun(runs, func() {
		var out session.Effects
		s.Deliver(now, "/a", events[next], &out)
		next++
		for e := range out.Pushes.All() {
			bytes += e.Frame(out.Pushes.As).Len()
		}
	})
	if got != 0 {
		t.Errorf("a push allocates %v times", got)
	}
	if bytes == 0 {
		t.Error("nothing was pushed")
	}
}

// onSocket returns a session with one subscription and a connect held on a
// socket.
func onSocket(tb testing.TB, cfg *session.Config, now time.Time) *session.Session {
	tb.Helper()
	var out session.Effects
	s := idle(tb, cfg, now)
	connect := decode(tb, `{"id":"5","channel":"/meta/connect","clientId":"S"}`)
	s.Receive(now, session.Request{Exchange: 5, Socket: 7, Messages: connect}, &out)
	if !s.Holding() || s.Socket() != 7 {
		tb.Fatal("the socket does not hold the connect")
	}
	return s
}

func BenchmarkPush(b *testing.B) {
	cfg, now := (session.Config{}).Defaults(), time.Now()
	s := onSocket(b, cfg, now)
	events := make([]*event.Event, 1<<10)
	next := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		if next%uint64(len(events)) == 0 {
			b.StopTimer()
			for i := range events {
				events[i] = entryOf(next + uint64(i) + 1)
			}
			b.StartTimer()
		}
		var out session.Effects
		s.Deliver(now, "/a", events[next%uint64(len(events))], &out)
		next++
	}
}

// BenchmarkFull is an event for a full queue, with each policy.
func BenchmarkFull(b *testing.B) {
	for _, policy := range []session.Policy{session.Recover, session.DropOldest, session.Conflate} {
		b.Run(fmt.Sprint(policy), func(b *testing.B) {
			now := time.Now()
			cfg := session.Config{Slow: func(string) session.Policy { return policy }}.Defaults()
			s := onSocket(b, cfg, now)
			s.Blocked(now, 7)
			var out session.Effects
			for i := range cfg.QueueMessages - 1 {
				channel := fmt.Sprintf("/b/%04d", i)
				subscribe(s, now, channel, &out)
				at := shard.Position{Slot: shard.Of(channel), Offset: 1 << 40}
				s.Deliver(now, channel, event.New(channel, at, []byte("1"), nil, nil, time.Time{}), &out)
				out.Reset()
			}
			next := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				next++
				s.Deliver(now, "/a", entryOf(next), &out)
				out.Reset()
			}
		})
	}
}

func BenchmarkDeliver(b *testing.B) {
	const queued = 500
	for _, subs := range []int{1, 100} {
		b.Run(fmt.Sprintf("subscriptions=%d", subs), func(b *testing.B) {
			cfg, now := (session.Config{}).Defaults(), time.Now()
			s := idle(b, cfg, now)
			var out session.Effects
			for i := range subs - 1 {
				subscribe(s, now, fmt.Sprintf("/a/%d", i), &out)
			}
			connect := decode(b, `{"id":"5","channel":"/meta/connect","clientId":"S"}`)
			events := make([]*event.Event, queued)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%queued == 0 { // what was queued is taken
					b.StopTimer()
					for n := range events {
						events[n] = entryOf(uint64(i + n + 1))
					}
					ex := session.Exchange(2*i + 100)
					for n := range session.Exchange(2) {
						s.Receive(now, session.Request{Exchange: ex + n, Messages: connect}, &out)
						connect[0].ID = []byte(fmt.Sprint(ex + n))
					}
					s.Lost(now, ex+1, &out)
					out.Reset()
					b.StartTimer()
				}
				s.Deliver(now, "/a", events[i%queued], &out)
			}
		})
	}
}

func subscribe(s *session.Session, now time.Time, channel string, out *session.Effects) {
	ok := []bayeux.Message{{
		Channel: bayeux.Subscribe, ClientID: "S",
		Subscription: &bayeux.Subscription{Channels: []string{channel}, Raw: []byte(`"` + channel + `"`)},
	}}
	s.Receive(now, session.Request{Exchange: 99, Messages: ok}, out)
	s.Subscribed(now, out.Interests[len(out.Interests)-1].Token, nil, nil, out)
	out.Reset()
}

// BenchmarkConnect is the life of a busy long poll: a connect is held, an
// event releases it, the answer is written.
func BenchmarkConnect(b *testing.B) {
	cfg, now := (session.Config{}).Defaults(), time.Now()
	s := idle(b, cfg, now)
	var out session.Effects
	var bytes int
	id := []byte(`"0000000"`)
	connect := []bayeux.Message{{Channel: bayeux.Connect, ClientID: "S", ID: id}}
	e := entryOf(1)
	e.JSON()
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		ex := session.Exchange(i + 100)
		id[1+i%7]++ // another id than the last
		if id[1+i%7] > '9' {
			id[1+i%7] = '0'
		}
		s.Receive(now, session.Request{Exchange: ex, Messages: connect}, &out)
		out.Reset()
		s.Send(now, e, &out)
		bytes += len(out.Answers[0].Body)
		s.Written(now, ex, &out)
		out.Reset()
	}
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes/answer")
}
