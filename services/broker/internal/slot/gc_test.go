package slot

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// BenchmarkHistory appends to all the slots of a broker that has as much
// history as it keeps: the time of an append, the share of the busy CPU time
// that goes to garbage collection, and the heap. Run it with -benchtime=5s or
// more, so that there are collections to measure.
func BenchmarkHistory(b *testing.B) {
	for _, size := range []int{10 << 20, 1 << 30} {
		b.Run(fmt.Sprint(size>>20, "MB"), func(b *testing.B) { benchmarkHistory(b, size) })
	}
}

func benchmarkHistory(b *testing.B, size int) {
	b.Helper()
	const channels, payload = 32, 256 // channels of each slot
	slots := make([]*Slot, shard.Slots)
	for i := range slots {
		slots[i] = newSlot(func(c *Config) {
			c.LogBytes = size / shard.Slots
			c.Retention.Bytes = size / shard.Slots
			c.Retention.Class = func(string) history.Class { return history.Class{Messages: 1 << 20} }
		})
	}
	names := make([]string, channels)
	for i := range names {
		names[i] = fmt.Sprint("/bench/", i)
	}
	now, sent := start(), 0
	send := func() {
		s := slots[sent%len(slots)]
		p := Publication{Channel: names[sent/len(slots)%channels], Data: make([]byte, payload)}
		if _, err := s.Append(p, now); err != nil {
			b.Fatal(err)
		}
		s.Commit(s.End())
		sent++
	}
	for range size / payload {
		send()
	}
	runtime.GC()
	gc, busy := collecting()
	took := make([]time.Duration, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		begin := time.Now()
		send()
		if lasted := time.Since(begin); len(took) < cap(took) {
			took = append(took, lasted)
		} else {
			took[sent%len(took)] = lasted
		}
	}
	runtime.GC()
	gcAfter, busyAfter := collecting()
	slices.Sort(took)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	b.ReportMetric(100*(gcAfter-gc)/(busyAfter-busy), "gc-%")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
	b.ReportMetric(float64(took[len(took)*999/1000]), "p99.9-ns")
	b.ReportMetric(float64(mem.HeapAlloc>>20), "heap-MB")
	runtime.KeepAlive(slots)
}

// collecting is how much CPU time went to garbage collection so far, and how
// much was not idle, in seconds.
func collecting() (gc, busy float64) {
	s := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"},
	}
	metrics.Read(s)
	return s[0].Value.Float64(), s[1].Value.Float64() - s[2].Value.Float64()
}

// What a small message and a channel with one message take beyond the bytes of
// the message.
func TestMemory(t *testing.T) {
	data := []byte("12345678")
	tests := []struct {
		name               string
		messages, channels int
		most               int // bytes of memory for each message
	}{
		{"small messages", 50_000, 100, 100},
		{"channels with one message", 20_000, 20_000, 300},
	}
	for _, tt := range tests {
		s := newSlot(func(c *Config) {
			c.LogBytes = 1
			c.Retention.Bytes = 1 << 30
			c.Retention.Class = func(string) history.Class { return history.Class{Messages: 1 << 20, Age: time.Hour} }
		})
		before := heap()
		for i := range tt.messages {
			p := Publication{Channel: fmt.Sprint("/memory/", i%tt.channels), Data: slices.Clone(data)}
			if _, err := s.Append(p, start()); err != nil {
				t.Fatal(err)
			}
			s.Commit(s.End())
		}
		each := int(heap()-before)/tt.messages - len(data)
		t.Logf("%s: %d bytes each", tt.name, each)
		if each > tt.most {
			t.Errorf("%s: %d bytes each, want at most %d", tt.name, each, tt.most)
		}
		runtime.KeepAlive(s)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
