package edge

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/comet-push/comet/services/edge/internal/hub"
)

// carry adds sessions to a crowd whose WebSockets nobody holds: what is sent on
// them waits.
func (c *crowd) carry(n int, channel string) {
	c.tb.Helper()
	for range n {
		stream, receiver, p := c.service.Open(c.service.number(), "")
		if p != nil {
			c.tb.Fatal(p.Detail)
		}
		say := func(text string) { receiver.Message(stream.Number(), []byte(text)) }
		say(`[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["websocket"]}]`)
		id := c.service.sockets.find(stream.Number()).client.Load().session.ID()
		say(fmt.Sprintf(`[{"channel":"/meta/subscribe","clientId":%q,"subscription":%q}]`, id, channel))
		c.service.hub.Changes(func(change hub.Change) { c.service.hub.Joined(change.Channel, nil) })
		for range 2 {
			say(fmt.Sprintf(`[{"channel":"/meta/connect","connectionType":"websocket","clientId":%q}]`, id))
		}
	}
}

// A message to one more WebSocket allocates nothing, but for room to wait in.
func TestFanOutToOneMoreSocket(t *testing.T) {
	count := func(sockets int) float64 {
		c := newCrowd(t, 0, "/a")
		c.carry(sockets, "/a")
		return testing.AllocsPerRun(300, func() { c.entry("/a") })
	}
	if one, many := count(1), count(21); many-one >= 2 {
		t.Errorf("%v allocations for one socket, %v for 21", one, many)
	}
}

// Idle clients cost little beside their connections.
func TestMemoryOfIdleClients(t *testing.T) {
	if testing.Short() {
		t.Skip("holds 10,000 clients")
	}
	const n = 10_000
	polls := func(c *crowd) {
		c.shakeHands(n, "/a")
		c.connect()
		c.settle()
		c.connect()
	}
	sockets := func(c *crowd) {
		c.carry(n, "/a")
		for _, k := range c.service.sockets.list() {
			k.stream.Cut() // drops what was to be written
		}
	}
	for _, tt := range []struct {
		name string
		open func(c *crowd)
		most uint64
	}{{"long-polling", polls, 850}, {"websocket", sockets, 1100}} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCrowd(t, 1, "/a")
			before := liveHeap()
			tt.open(c)
			c.ids, c.polls = nil, nil
			each := (liveHeap() - before) / n
			t.Logf("%d bytes each", each)
			if each > tt.most {
				t.Errorf("%d bytes each, want at most %d", each, tt.most)
			}
			runtime.KeepAlive(c)
		})
	}
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkPush is the fan-out of one message to WebSockets, without writing.
func BenchmarkPush(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, 0, "/a")
			c.carry(n, "/a")
			b.ReportAllocs()
			var took time.Duration
			rounds := 0
			for b.Loop() {
				if rounds++; rounds%300 == 0 { // before what waits is too much
					b.StopTimer()
					for _, k := range c.service.sockets.list() {
						k.Ended(0, false)
					}
					c.carry(n, "/a")
					b.StartTimer()
				}
				began := time.Now()
				c.entry("/a")
				took += time.Since(began)
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/float64(n), "ns/socket")
		})
	}
}
