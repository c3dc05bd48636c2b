package edge

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/comet-push/comet/services/edge/internal/channels"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/hub"
)

// listen adds streams that read a channel to a crowd.
func (c *crowd) listen(n int, transport channels.Transport, names ...string) {
	c.tb.Helper()
	for range n {
		opened := make(chan *hold.Stream)
		go func() {
			s, p := c.service.plain.Stream(context.Background(), c.service.number(),
				&channels.Request{Transport: transport, Channels: names})
			if p != nil {
				c.tb.Error(p)
			}
			opened <- s
		}()
		for waits := true; waits; {
			select {
			case <-opened:
				waits = false
			default:
				c.service.hub.Changes(func(change hub.Change) { c.service.hub.Joined(change.Channel, nil) })
				runtime.Gosched()
			}
		}
	}
}

// A message to one more stream allocates nothing.
func TestFanOutToOneMoreReader(t *testing.T) {
	for _, transport := range []channels.Transport{channels.SSE, channels.Stream, channels.Multipart, channels.Frame, channels.WebSocket} {
		t.Run(transport.String(), func(t *testing.T) {
			count := func(readers int) float64 {
				c := newCrowd(t, 0, "/a")
				c.listen(readers, transport, "/a")
				return testing.AllocsPerRun(100, func() { c.entry("/a") })
			}
			// Nobody writes, so queues grow now and then; and a collection empties
			// what is recycled.
			const more = 40
			if one, many := count(1), count(1+more); many-one > more/4 {
				t.Errorf("%v allocations for one reader, %v for %d", one, many, 1+more)
			}
		})
	}
}

// An idle stream costs little beside its connection. What is measured includes
// the stream itself and its first frame, which nobody writes.
func TestMemoryOfIdleReaders(t *testing.T) {
	if testing.Short() {
		t.Skip("holds 10,000 readers")
	}
	const readers, most = 10_000, 600
	c := newCrowd(t, 0, "/a")
	c.listen(1, channels.SSE, "/a")
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	c.listen(readers, channels.SSE, "/a")
	each := float64(heap()-before) / readers
	t.Logf("%.0f bytes each", each)
	if each > most {
		t.Errorf("%.0f bytes each, want at most %d", each, most)
	}
	runtime.KeepAlive(c)
}

// BenchmarkDeliver is the fan-out of one message to streams.
func BenchmarkDeliver(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, 0, "/a")
			c.listen(n, channels.SSE, "/a")
			b.ReportAllocs()
			for b.Loop() {
				c.entry("/a")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/reader")
		})
	}
}
