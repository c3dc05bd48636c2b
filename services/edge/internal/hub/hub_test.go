package hub_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

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

func (f *fakeSession) Resync(channel string, _ shard.Position) {
	f.got = append(f.got, "resync "+channel)
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

// model is the hub in the simplest words: what upstream has joined, who
// subscribes, and everything that was ever handed in.
type model struct {
	waiting map[string]map[*fakeSession]uint64
	members map[string]map[*fakeSession]bool
	asked   map[string]bool
	joined  map[string]uint64 // literal: complete since
	end     map[shard.Slot]uint64
	log     []*event.Event
}

var channels = []string{"/a", "/a/b", "/a/c", "/x/y/z", "/a/*", "/a/**", "/**", "/x/**"}

func TestHubAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := hub.New[*fakeSession](hub.Config{RingMessages: 4, RingBytes: 1 << 20, SlotBytes: 1 << 20})
		m := &model{
			waiting: map[string]map[*fakeSession]uint64{}, members: map[string]map[*fakeSession]bool{},
			asked: map[string]bool{}, joined: map[string]uint64{}, end: map[shard.Slot]uint64{},
		}
		var subs []*fakeSession
		want := map[*fakeSession][]string{}
		for i := range 3 {
			subs = append(subs, newFake(fmt.Sprint("s", i)))
		}
		for _, c := range channels {
			m.waiting[c], m.members[c] = map[*fakeSession]uint64{}, map[*fakeSession]bool{}
		}
		var token uint64
		sub := rapid.SampledFrom(subs)
		channel := rapid.SampledFrom(channels)
		literal := rapid.SampledFrom(channels[:4])
		t.Repeat(map[string]func(*rapid.T){
			"subscribe": func(t *rapid.T) {
				s, c := sub.Draw(t, "session"), channel.Draw(t, "channel")
				if m.members[c][s] || m.waiting[c][s] != 0 {
					return
				}
				token++
				h.Subscribe(time.Time{}, s, token, c)
				if _, ok := m.joined[c]; !ok {
					m.waiting[c][s] = token
					return
				}
				m.members[c][s] = true
				m.checkPosition(t, s, token, c)
			},
			"unsubscribe": func(t *rapid.T) {
				s, c := sub.Draw(t, "session"), channel.Draw(t, "channel")
				h.Unsubscribe(s, c)
				if waiting := m.waiting[c][s]; waiting != 0 && s.errs[waiting] == "" {
					t.Fatalf("%s was not told that it does not get %s", s.name, c)
				}
				delete(m.members[c], s)
				delete(m.waiting[c], s)
			},
			"changes": func(t *rapid.T) {
				h.Changes(func(c hub.Change) {
					wanted := len(m.members[c.Channel])+len(m.waiting[c.Channel]) > 0
					if c.Join != wanted || c.Join == m.asked[c.Channel] {
						t.Fatalf("asks %+v, wanted %v, asked before %v", c, wanted, m.asked[c.Channel])
					}
					m.asked[c.Channel] = c.Join
					if !c.Join {
						delete(m.joined, c.Channel)
					}
				})
				for _, c := range channels {
					if wanted := len(m.members[c])+len(m.waiting[c]) > 0; wanted != m.asked[c] {
						t.Fatalf("%s: wanted %v, asked for %v", c, wanted, m.asked[c])
					}
				}
			},
			"joined": func(t *rapid.T) {
				c := channel.Draw(t, "channel")
				if _, ok := m.joined[c]; ok || !m.asked[c] {
					return
				}
				slot := shard.Of(c)
				at := m.end[slot] + rapid.Uint64Range(0, 3).Draw(t, "ahead")
				m.joined[c] = at
				var from []shard.Position
				if !bayeux.IsPattern(c) {
					from = []shard.Position{{Slot: slot, Offset: at}}
				}
				h.Joined(c, from)
				for s, tok := range m.waiting[c] {
					m.members[c][s] = true
					m.checkPosition(t, s, tok, c)
				}
				clear(m.waiting[c])
			},
			"entry": func(t *rapid.T) {
				c := literal.Draw(t, "channel")
				slot := shard.Of(c)
				m.end[slot] += rapid.Uint64Range(1, 3).Draw(t, "step")
				e := entry(c, m.end[slot])
				m.log = append(m.log, e)
				for via, members := range m.members {
					since, ok := m.joined[via]
					if !ok || !bayeux.Match(via, c) || via == c && e.At.Offset <= since {
						continue
					}
					for s := range members {
						want[s] = append(want[s], fmt.Sprintf("%s %s@%d", via, c, e.At.Offset))
					}
				}
				h.Entry(e)
				if rapid.Bool().Draw(t, "again") {
					h.Entry(e)
				}
			},
			"through": func(t *rapid.T) {
				slot := shard.Of(literal.Draw(t, "channel"))
				m.end[slot] += rapid.Uint64Range(0, 2).Draw(t, "step")
				h.Through(shard.Position{Slot: slot, Offset: m.end[slot]})
			},
			"resync": func(t *rapid.T) {
				c := literal.Draw(t, "channel")
				if _, ok := m.joined[c]; !ok {
					return
				}
				m.joined[c] = max(m.joined[c], m.end[shard.Of(c)])
				for s := range m.members[c] {
					want[s] = append(want[s], "resync "+c)
				}
				h.Resync(shard.Position{Slot: shard.Of(c), Offset: m.joined[c]}, []string{c})
			},
			"replay": func(t *rapid.T) {
				c := literal.Draw(t, "channel")
				since := rapid.Uint64Range(0, m.end[shard.Of(c)]+4).Draw(t, "since")
				limit := rapid.IntRange(1, 5).Draw(t, "limit")
				m.checkReplay(t, h, c, since, limit)
			},
			"": func(t *rapid.T) {
				for _, s := range subs {
					if s.owed {
						t.Fatalf("%s was not settled", s.name)
					}
					compare(t, s, want[s])
				}
			},
		})
	})
}

// checkPosition: what a session is told lies at the end of what was handed out,
// or where upstream joined.
func (m *model) checkPosition(t *rapid.T, s *fakeSession, token uint64, channel string) {
	from, ok := s.from[token]
	if !ok || s.errs[token] != "" {
		t.Fatalf("%s was not confirmed on %s: %s", s.name, channel, s.errs[token])
	}
	var want []shard.Position
	if !bayeux.IsPattern(channel) {
		slot := shard.Of(channel)
		want = []shard.Position{{Slot: slot, Offset: max(m.joined[channel], m.end[slot])}}
	}
	if diff := cmp.Diff(want, from); diff != "" {
		t.Fatalf("%s on %s is told another position (-want +got):\n%s", s.name, channel, diff)
	}
}

func (m *model) checkReplay(t *rapid.T, h *hub.Hub[*fakeSession], channel string, since uint64, limit int) {
	events, through, ok := h.Replay(channel, since, limit)
	if !ok {
		return
	}
	joined, known := m.joined[channel]
	if !known || through < since || since < joined {
		t.Fatalf("%s since %d answered through %d, joined at %d", channel, since, through, joined)
	}
	var want []uint64
	for _, e := range m.log {
		if e.Channel == channel && e.At.Offset > since && e.At.Offset <= through {
			want = append(want, e.At.Offset)
		}
	}
	var got []uint64
	for _, e := range events {
		got = append(got, e.At.Offset)
	}
	if !slices.Equal(got, want) || len(got) > limit {
		t.Fatalf("%s in (%d, %d]: %v, want %v", channel, since, through, got, want)
	}
}

// compare: per channel in order; the order between subscriptions is free.
func compare(t *rapid.T, s *fakeSession, want []string) {
	got := slices.Sorted(slices.Values(s.got))
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", s.name, diff)
	}
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
