package hub_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/hub"
)

// anySubscriber is what edges have: sessions and plain requests.
type anySubscriber interface {
	Deliver(via string, e *event.Event)
	Resync(channel string, at shard.Position)
	Subscribed(token uint64, from []shard.Position, err *bayeux.Error)
	Settle()
}

// other is another kind of subscriber than counter.
type other struct{ counter }

func anyCrowd(n int) []anySubscriber {
	all := make([]anySubscriber, n)
	for i := range all {
		if all[i] = new(counter); i%2 == 0 {
			all[i] = new(other)
		}
	}
	return all
}

// The members of a channel take at most 50 bytes each, and a channel with one
// member 300. Names are the subscribers'.
func TestMemoryOfMembers(t *testing.T) {
	const crowd = 15_000
	names := make([]string, crowd)
	for i := range names {
		names[i] = fmt.Sprint("/room/", i)
	}
	for _, tt := range []struct {
		name    string
		channel func(i int) string
		most    uint64
	}{
		{"one channel", func(int) string { return "/all" }, 50},
		{"a channel each", func(i int) string { return names[i] }, 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := anyCrowd(crowd)
			h := hub.New[anySubscriber](hub.Config{})
			before := heap()
			for i, sub := range all {
				h.Subscribe(time.Time{}, sub, 1, tt.channel(i))
				h.Changes(func(c hub.Change) {
					h.Joined(c.Channel, []shard.Position{{Slot: shard.Of(c.Channel), Offset: 1}})
				})
			}
			each := (heap() - before) / crowd
			t.Logf("%d bytes a member", each)
			if each > tt.most {
				t.Errorf("%d bytes a member, at most %d are allowed", each, tt.most)
			}
			for i, sub := range all {
				h.Unsubscribe(sub, tt.channel(i))
			}
			runtime.KeepAlive(h)
		})
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Members are found again, however many come and go.
func TestMembersComeAndGo(t *testing.T) {
	h := hub.New[anySubscriber](hub.Config{})
	h.Subscribe(time.Time{}, new(counter), 1, "/a")
	h.Changes(func(c hub.Change) { h.Joined(c.Channel, []shard.Position{{Slot: shard.Of(c.Channel)}}) })
	all := anyCrowd(5000)
	var offset uint64
	for _, size := range []int{5000, 3, 17, 700, 5000, 1} {
		for _, sub := range all[:size] {
			h.Subscribe(time.Time{}, sub, 1, "/a")
			h.Subscribe(time.Time{}, sub, 1, "/a")
		}
		offset++
		if n := h.Entry(entry("/a", offset)); n != size+1 {
			t.Fatalf("delivered to %d, want %d", n, size+1)
		}
		for i := range size {
			sub := all[(i*7)%size] // some twice, some not at all
			h.Unsubscribe(sub, "/a")
		}
		for _, sub := range all[:size] {
			h.Unsubscribe(sub, "/a")
		}
		offset++
		if n := h.Entry(entry("/a", offset)); n != 1 {
			t.Fatalf("delivered to %d, want 1", n)
		}
	}
}

func BenchmarkSubscribeAndLeave(b *testing.B) {
	for _, n := range []int{0, 10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := hub.New[anySubscriber](hub.Config{Linger: time.Second, Lingering: 100})
			h.Subscribe(time.Time{}, new(counter), 1, "/a")
			h.Changes(func(c hub.Change) { h.Joined(c.Channel, []shard.Position{{Slot: shard.Of(c.Channel)}}) })
			for _, sub := range anyCrowd(n) {
				h.Subscribe(time.Time{}, sub, 1, "/a")
			}
			var sub anySubscriber = new(other)
			b.ReportAllocs()
			for b.Loop() {
				h.Subscribe(time.Time{}, sub, 1, "/a")
				h.Unsubscribe(sub, "/a")
			}
		})
	}
}

func BenchmarkFrom(b *testing.B) {
	h := hub.New[anySubscriber](hub.Config{})
	h.Subscribe(time.Time{}, new(counter), 1, "/**")
	h.Changes(func(c hub.Change) { h.Joined(c.Channel, nil) })
	b.ReportAllocs()
	for b.Loop() {
		h.From("/**")
	}
}

func BenchmarkHandedOfAllSlots(b *testing.B) {
	h := hub.New[anySubscriber](hub.Config{})
	var sum uint64
	for b.Loop() {
		for slot := range shard.Slot(shard.Slots) {
			sum += h.Handed(slot)
		}
	}
}
