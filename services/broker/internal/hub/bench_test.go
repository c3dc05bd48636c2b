package hub

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// crowd returns a slot with followers that all want the same names.
func crowd(tb testing.TB, followers int, names ...string) (b *broker, fs []*Follower) {
	tb.Helper()
	b = newBroker(history.Class{Messages: 100})
	b.serve(n)
	for range followers {
		f := b.hub.Attach(MaxCredit)
		must(tb, f.Open(n, Start{}))
		for i, name := range names {
			must(tb, f.Join(uint64(i), name))
		}
		f.Items()
		f.Items()
		fs = append(fs, f)
	}
	return b, fs
}

// refill takes what waits and makes room for as much.
func refill(fs []*Follower) {
	for _, f := range fs {
		f.Items()
		f.Grant(MaxCredit)
	}
}

// An entry costs no allocation for one more follower, by a literal channel or
// by a pattern.
func TestFanOutAllocatesNothing(t *testing.T) {
	a := sharing(n, "a", 1)[0]
	for _, names := range [][]string{{a}, {"/a/*"}, {a, "/a/*", "/**"}} {
		b, fs := crowd(t, 10, names...)
		for range 4 { // both buffers of each follower have grown
			for range 200 {
				b.publish(a)
			}
			refill(fs)
		}
		fan := b.slots[n].fan
		entries := []*history.Entry{{Channel: a, Offset: 1 << 30}}
		allocs := testing.AllocsPerRun(100, func() {
			entries[0].Offset++
			fan.Publish(entries)
		})
		if allocs != 0 {
			t.Errorf("%v: %v allocations per entry", names, allocs)
		}
	}
}

// What a lagging follower takes does not grow with what it lags behind.
func TestLaggingFollowersStaySmall(t *testing.T) {
	a := sharing(n, "a", 1)[0]
	b, fs := crowd(t, 100, a, "/a/*")
	for _, f := range fs {
		f.credit = 0
	}
	b.publish(a)
	before := heap()
	for range 10_000 {
		b.publish(a)
	}
	if grown := int64(heap()) - int64(before); grown > 100*1000 {
		t.Errorf("100 lagging followers grew by %d bytes over 10000 entries", grown)
	}
	for _, f := range fs {
		if items := f.Items(); len(items) != 1 {
			t.Fatalf("%d items wait", len(items))
		}
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkFanOut(b *testing.B) {
	a := sharing(n, "a", 1)[0]
	for _, by := range []string{a, "/a/*"} {
		kind := "literal"
		if by != a {
			kind = "pattern"
		}
		for _, followers := range []int{1, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", kind, followers), func(b *testing.B) {
				br, fs := crowd(b, followers, by)
				fan := br.slots[n].fan
				entries := []*history.Entry{{Channel: a, Data: []byte("1"), Offset: 1 << 30}}
				published := 0
				b.ReportAllocs()
				for b.Loop() {
					entries[0].Offset++
					fan.Publish(entries)
					if published++; published%256 == 0 {
						b.StopTimer()
						refill(fs)
						b.StartTimer()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(followers), "ns/delivery")
			})
		}
	}
}

// One entry, and 10,000 interests of one follower of which two match.
func BenchmarkMatch(b *testing.B) {
	a := sharing(n, "a", 1)[0]
	names := []string{a, "/a/*"}
	for i := range 10_000 {
		names = append(names, fmt.Sprintf("/p%d/**", i))
	}
	br, fs := crowd(b, 1, names...)
	fan := br.slots[n].fan
	entries := []*history.Entry{{Channel: a, Data: []byte("1"), Offset: 1 << 30}}
	published := 0
	b.ReportAllocs()
	for b.Loop() {
		entries[0].Offset++
		fan.Publish(entries)
		if published++; published%4096 == 0 {
			refill(fs)
		}
	}
}

// A pull over 10,000 retained entries, of which one in ten is wanted.
func BenchmarkPull(b *testing.B) {
	br := newBroker(history.Class{Messages: 1000})
	br.serve(n)
	channels := sharing(n, "a", 10)
	for range 1000 {
		br.publish(channels...)
	}
	f := br.hub.Attach(MaxCredit)
	must(b, f.Join(1, "/none/*"))
	base := br.slots[n].log.Base()
	must(b, f.Open(n, Start{Given: true, Since: base}))
	must(b, f.Join(2, channels[0]))
	b.ReportAllocs()
	for b.Loop() {
		must(b, f.Open(n, Start{Given: true, Since: base}))
		must(b, f.Pull(n))
		f.Items()
		f.Grant(MaxCredit)
	}
}

// Publishing to different slots at once.
func BenchmarkParallelSlots(b *testing.B) {
	br := newBroker(history.Class{Messages: 100})
	for n := range shard.Slot(shard.Slots) {
		br.serve(n)
	}
	f := br.hub.Attach(1)
	must(b, f.Join(1, "/other/**"))
	next := make(chan shard.Slot, shard.Slots)
	for n := range shard.Slot(shard.Slots) {
		next <- n
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		n := <-next
		o, channel := br.slots[n], sharing(n, "a", 1)[0]
		for pb.Next() {
			o.mu.Lock()
			o.append(channel)
			o.mu.Unlock()
			o.commit()
		}
	})
}
