package plain_test

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

// live returns a stream that waits for messages.
func live(cfg *plain.Config, now time.Time, as event.Encoding, channels []string) *plain.Reader {
	r := plain.New(cfg, plain.Request{Channels: channels, Encoding: as}, now)
	var out plain.Effects
	r.Start(now, &out)
	for _, i := range out.Interests {
		var from []shard.Position
		for _, slot := range shard.SlotsOf([]string{i.Channel}) {
			from = append(from, shard.Position{Slot: slot, Offset: 1})
		}
		r.Subscribed(now, i.Token, from, nil, &out)
	}
	return r
}

// A stream that waits stays small, and a pattern needs no vector.
func TestIdleSize(t *testing.T) {
	const readers = 2000
	tests := []struct {
		name     string
		channels []string
		most     int
	}{
		{"channel", []string{"/a"}, 200},
		{"pattern", []string{"/a/*"}, 300},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var handed uint64
			cfg, now := plain.Config{Handed: func(shard.Slot) uint64 { return handed }}.Defaults(), time.Now()
			kept := make([]*plain.Reader, readers)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for i := range kept {
				kept[i] = live(cfg, now, event.SSE, tt.channels)
			}
			handed = 2 // the hub gets on
			var out plain.Effects
			for _, r := range kept {
				r.Tick(now.Add(time.Minute), &out)
				out.Reset()
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			each := (int(after.HeapAlloc) - int(before.HeapAlloc)) / readers
			t.Logf("it takes %d bytes", each)
			if each > tt.most {
				t.Errorf("it takes %d bytes, want at most %d", each, tt.most)
			}
			runtime.KeepAlive(kept)
		})
	}
}

// One more reader of a message costs no allocation.
func TestDeliverAllocatesNothing(t *testing.T) {
	for _, channels := range [][]string{{"/a"}, {"/b", "/*", "/a"}} {
		for _, as := range []event.Encoding{event.SSE, event.Script} {
			t.Run(strconv.Itoa(len(channels))+" channels "+strconv.Itoa(int(as)), func(t *testing.T) {
				const runs = 100
				now := time.Now()
				r := live(plain.Config{}.Defaults(), now, as, channels)
				events := make([]*event.Event, runs+1)
				for i := range events {
					events[i] = entry{"/a", uint64(i + 2)}.event()
					events[i].Frame(as)
				}
				var out plain.Effects
				next := 0
				deliver := func() {
					sent := false
					for _, via := range channels[len(channels)/2:] {
						sent = r.Deliver(now, via, events[next], &out) || sent
					}
					if !sent {
						t.Fatal("it is not sent")
					}
					next++
				}
				if got := testing.AllocsPerRun(runs, deliver); got != 0 {
					t.Errorf("Deliver allocates %v times", got)
				}
				if len(out.Frames) > 0 {
					t.Error("it has effects")
				}
			})
		}
	}
}

func BenchmarkDeliver(b *testing.B) {
	for _, channels := range [][]string{{"/a"}, {"/b", "/*", "/a"}} {
		b.Run(strconv.Itoa(len(channels)), func(b *testing.B) {
			now := time.Now()
			r := live(plain.Config{}.Defaults(), now, event.SSE, channels)
			events := make([]*event.Event, b.N+1)
			for i := range events {
				events[i] = entry{"/a", uint64(i + 2)}.event()
			}
			via := channels[len(channels)/2]
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				var out plain.Effects
				if !r.Deliver(now, via, events[i], &out) {
					b.Fatal("it is not sent")
				}
			}
		})
	}
}
