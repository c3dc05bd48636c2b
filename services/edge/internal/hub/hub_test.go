package hub_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/hub"
)

// fakeSession writes down what it is told.
type fakeSession struct {
	name string
	got  []string
	from map[uint64][]shard.Position // by token
	errs map[uint64]string
	owed bool // Settle has not been called since Subscribed
}

func newFake(name string) *fakeSession {
	return &fakeSession{name: name, from: map[uint64][]shard.Position{}, errs: map[uint64]string{}}
}

func (f *fakeSession) Deliver(via string, e *event.Event) {
	f.got = append(f.got, fmt.Sprintf("%s %s@%d", via, e.Channel, e.At.Offset))
}

func (f *fakeSession) Resync(channel string, at shard.Position) {
	f.got = append(f.got, fmt.Sprintf("resync %s@%d", channel, at.Offset))
}

func (f *fakeSession) Subscribed(token uint64, from []shard.Position, err *bayeux.Error) {
	f.owed = true
	f.from[token] = from
	if err != nil {
		f.errs[token] = err.Text
	}
}

func (f *fakeSession) Settle() { f.owed = false }

func entry(channel string, offset uint64) *event.Event {
	at := shard.Position{Slot: shard.Of(channel), Offset: offset}
	return event.New(channel, at, []byte(`{"n":1}`), nil, nil, time.Time{})
}

func TestExpire(t *testing.T) {
	h := hub.New[*fakeSession](hub.Config{})
	early, late := newFake("early"), newFake("late")
	start := time.Unix(1000, 0)
	h.Subscribe(start, early, 1, "/a")
	h.Subscribe(start.Add(time.Minute), late, 1, "/a")
	h.Changes(func(hub.Change) {})
	h.Expire(start.Add(time.Second))
	if early.errs[1] != "unavailable" || early.owed || late.errs[1] != "" {
		t.Errorf("early %q, late %q", early.errs[1], late.errs[1])
	}
	h.Joined("/a", []shard.Position{{Slot: shard.Of("/a"), Offset: 5}})
	if _, ok := early.from[1]; !ok || len(late.from[1]) != 1 {
		t.Errorf("late was told %v", late.from[1])
	}
}

// counter takes deliveries without a trace.
type counter struct{ n int }

func (c *counter) Deliver(string, *event.Event)                       { c.n++ }
func (c *counter) Resync(string, shard.Position)                      {}
func (c *counter) Subscribed(uint64, []shard.Position, *bayeux.Error) {}
func (c *counter) Settle()                                            {}

func crowd(tb testing.TB, n int, channels ...string) (*hub.Hub[*counter], []*counter) {
	tb.Helper()
	h := hub.New[*counter](hub.Config{RingMessages: 32, RingBytes: 1 << 16, SlotBytes: 1 << 20})
	var all []*counter
	for range n {
		c := &counter{}
		all = append(all, c)
		for _, channel := range channels {
			h.Subscribe(time.Time{}, c, 1, channel)
		}
	}
	h.Changes(func(c hub.Change) { h.Joined(c.Channel, []shard.Position{{Slot: shard.Of(c.Channel)}}) })
	return h, all
}

// Fan-out of one message to one more session allocates nothing; nor does all of
// it, once the ring is full.
func TestFanOutAllocates(t *testing.T) {
	for _, n := range []int{1, 2, 1000} {
		h, all := crowd(t, n, "/a/b", "/a/**")
		events := make([]*event.Event, 1200)
		for i := range events {
			events[i] = entry("/a/b", uint64(i+1))
		}
		next := 0

		hand := func() { h.Entry(events[next]); next++ }
		for range 100 {
			hand()
		}
		if allocs := testing.AllocsPerRun(1000, hand); allocs != 0 {
			t.Errorf("to %d sessions: %v allocations a message", n, allocs)
		}
		if want := 2 * next; all[n-1].n != want {
			t.Errorf("delivered %d, want %d", all[n-1].n, want)
		}
	}
}

// Members may come and go while an entry is handed to them.
func TestChurnDuringFanOut(t *testing.T) {
	h, stay := crowd(t, 50, "/a")
	churn := make([]*counter, 200)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range churn {
			churn[i] = &counter{}
			h.Subscribe(time.Time{}, churn[i], 1, "/a")
			if i >= 10 {
				h.Unsubscribe(churn[i-10], "/a")
			}
		}
	}()
	const messages = 2000
	for i := range uint64(messages) {
		h.Entry(entry("/a", i+1))
	}
	<-done
	for i, c := range stay {
		if c.n != messages {
			t.Errorf("session %d got %d of %d", i, c.n, messages)
		}
	}
}

func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h, _ := crowd(b, n, "/a")
			var offset uint64
			b.ReportAllocs()
			for b.Loop() {
				offset++
				h.Entry(entry("/a", offset))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/delivery")
		})
	}
}

func BenchmarkRemove64Subscriptions(b *testing.B) {
	var names []string
	for i := range 64 {
		names = append(names, fmt.Sprint("/room/", i))
	}
	h, _ := crowd(b, 10_000, names...)
	c := &counter{}
	for b.Loop() {
		for _, name := range names {
			h.Subscribe(time.Time{}, c, 1, name)
		}
		for _, name := range names {
			h.Unsubscribe(c, name)
		}
	}
}
