package hub_test

import (
	"fmt"
	"maps"
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

// model is the hub in the simplest words: what upstream has joined, who
// subscribes, what lingers, and everything that was ever handed in.
type model struct {
	hub  *hub.Hub[*fakeSession]
	cfg  hub.Config
	now  time.Time
	subs []*fakeSession
	want map[*fakeSession][]string

	waiting map[string]map[*fakeSession]uint64 // their tokens
	members map[string]map[*fakeSession]bool
	asked   map[string]bool
	joined  map[string]map[shard.Slot]uint64 // complete since
	lossy   map[shard.Slot]map[string]uint64 // until the next Through: lost after
	end     map[shard.Slot]uint64
	linger  []lingering // the oldest first
	token   uint64
	log     []*event.Event
	whole   map[string]uint64 // since when a channel lost nothing
}

type lingering struct {
	name  string
	since time.Time // zero: since the last sweep
}

var channels = []string{"/a", "/a/b", "/a/c", "/x/y/z", "/a/*", "/a/**", "/**", "/x/**"}

func newModel(t *rapid.T) *model {
	m := &model{
		cfg: hub.Config{
			RingMessages: 4, RingBytes: 1 << 20, SlotBytes: 1 << 20,
			Linger:    time.Duration(rapid.IntRange(0, 1).Draw(t, "linger")) * 10 * time.Second,
			Lingering: rapid.IntRange(0, 3).Draw(t, "lingering"),
		},
		now:     time.Unix(1_700_000_000, 0),
		want:    map[*fakeSession][]string{},
		waiting: map[string]map[*fakeSession]uint64{}, members: map[string]map[*fakeSession]bool{},
		asked: map[string]bool{}, joined: map[string]map[shard.Slot]uint64{},
		lossy: map[shard.Slot]map[string]uint64{}, end: map[shard.Slot]uint64{}, whole: map[string]uint64{},
	}
	m.hub = hub.New[*fakeSession](m.cfg)
	for i := range 3 {
		m.subs = append(m.subs, newFake(fmt.Sprint("s", i)))
	}
	for _, c := range channels {
		m.waiting[c], m.members[c] = map[*fakeSession]uint64{}, map[*fakeSession]bool{}
		if !bayeux.IsPattern(c) {
			m.end[shard.Of(c)], m.lossy[shard.Of(c)] = 0, map[string]uint64{}
		}
	}
	return m
}

func TestHubAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		sub := rapid.SampledFrom(m.subs)
		channel := rapid.SampledFrom(channels)
		literal := rapid.SampledFrom(channels[:4])
		t.Repeat(map[string]func(*rapid.T){
			"subscribe":   func(t *rapid.T) { m.subscribe(t, sub.Draw(t, "session"), channel.Draw(t, "channel")) },
			"unsubscribe": func(t *rapid.T) { m.unsubscribe(t, sub.Draw(t, "session"), channel.Draw(t, "channel")) },
			"changes":     m.changes,
			"joined":      func(t *rapid.T) { m.join(t, channel.Draw(t, "channel")) },
			"entry":       func(t *rapid.T) { m.entry(t, literal.Draw(t, "channel")) },
			"through": func(t *rapid.T) {
				slot := shard.Of(literal.Draw(t, "channel"))
				for _, at := range m.lossy[slot] {
					m.end[slot] = max(m.end[slot], at)
				}
				m.end[slot] += rapid.Uint64Range(0, 2).Draw(t, "step")
				m.hub.Through(shard.Position{Slot: slot, Offset: m.end[slot]})
				for c := range m.lossy[slot] {
					m.whole[c] = m.end[slot]
				}
				clear(m.lossy[slot])
			},
			"resync": func(t *rapid.T) { m.resync(t, shard.Of(literal.Draw(t, "of")), channel.Draw(t, "channel")) },
			"replay": func(t *rapid.T) { m.replay(t, literal.Draw(t, "channel")) },
			"from":   func(t *rapid.T) { m.from(t, channel.Draw(t, "channel")) },
			"sweep":  m.sweep,
			"":       m.check,
		})
	})
}

func (m *model) idle(c string) bool { return len(m.members[c])+len(m.waiting[c]) == 0 }

func (m *model) lingers(c string) bool {
	return slices.ContainsFunc(m.linger, func(l lingering) bool { return l.name == c })
}

func (m *model) stay(c string) {
	m.linger = slices.DeleteFunc(m.linger, func(l lingering) bool { return l.name == c })
}

func (m *model) leave(c string) {
	if m.cfg.Linger == 0 {
		return
	}
	m.linger = append(m.linger, lingering{name: c})
	if len(m.linger) > m.cfg.Lingering {
		m.linger = m.linger[1:]
	}
}

// after is where a slot of a channel that was joined is.
func (m *model) after(c string, slot shard.Slot) uint64 { return max(m.joined[c][slot], m.end[slot]) }

func (m *model) subscribe(t *rapid.T, s *fakeSession, c string) {
	if m.members[c][s] || m.waiting[c][s] != 0 {
		return
	}
	m.token++
	m.stay(c)
	m.hub.Subscribe(m.now, s, m.token, c)
	if m.joined[c] == nil {
		m.waiting[c][s] = m.token
		return
	}
	m.confirmed(t, s, m.token, c)
}

// confirmed: what a session is told lies at the end of what was handed out, or
// where upstream joined; and it is told what it cannot know to have lost.
func (m *model) confirmed(t *rapid.T, s *fakeSession, token uint64, c string) {
	m.members[c][s] = true
	from, ok := s.from[token]
	if !ok || s.errs[token] != "" {
		t.Fatalf("%s was not confirmed on %s: %s", s.name, c, s.errs[token])
	}
	var want []shard.Position
	if slot := shard.Of(c); !bayeux.IsPattern(c) {
		want = []shard.Position{{Slot: slot, Offset: m.after(c, slot)}}
	}
	if diff := cmp.Diff(want, from); diff != "" {
		t.Fatalf("%s on %s is told another position (-want +got):\n%s", s.name, c, diff)
	}
	for slot, lossy := range m.lossy {
		if at, ok := lossy[c]; ok {
			m.want[s] = append(m.want[s], fmt.Sprintf("resync %s@%d", c, max(at, m.after(c, slot))))
		}
	}
}

func (m *model) unsubscribe(t *rapid.T, s *fakeSession, c string) {
	m.hub.Unsubscribe(s, c)
	waiting := m.waiting[c][s]
	if waiting != 0 && s.errs[waiting] == "" {
		t.Fatalf("%s was not told that it does not get %s", s.name, c)
	}
	was := waiting != 0 || m.members[c][s]
	delete(m.members[c], s)
	delete(m.waiting[c], s)
	if was && m.idle(c) {
		m.leave(c)
	}
}

func (m *model) changes(t *rapid.T) {
	wanted := func(c string) bool { return !m.idle(c) || m.lingers(c) }
	m.hub.Changes(func(c hub.Change) {
		if c.Join != wanted(c.Channel) || c.Join == m.asked[c.Channel] {
			t.Fatalf("asks %+v, wanted %v, asked before %v", c, wanted(c.Channel), m.asked[c.Channel])
		}
		m.asked[c.Channel] = c.Join
		if !c.Join {
			delete(m.joined, c.Channel)
		}
	})
	topics := 0
	for _, c := range channels {
		if wanted(c) != m.asked[c] {
			t.Fatalf("%s: wanted %v, asked for %v", c, wanted(c), m.asked[c])
		}
		if !m.idle(c) {
			topics++
		}
	}
	if got := m.hub.Topics(); got != topics {
		t.Fatalf("%d topics, want %d", got, topics)
	}
	if got := m.hub.Lingering(); got != len(m.linger) {
		t.Fatalf("%d linger, want %v", got, m.linger)
	}
}

func (m *model) join(t *rapid.T, c string) {
	if m.joined[c] != nil || !m.asked[c] {
		return
	}
	m.joined[c] = map[shard.Slot]uint64{}
	var from []shard.Position
	for _, slot := range slices.Sorted(maps.Keys(m.end)) {
		if bayeux.IsPattern(c) || slot == shard.Of(c) {
			at := m.end[slot] + rapid.Uint64Range(0, 3).Draw(t, "ahead")
			m.joined[c][slot] = at
			from = append(from, shard.Position{Slot: slot, Offset: at})
		}
	}
	m.hub.Joined(c, from)
	for s, token := range m.waiting[c] {
		m.confirmed(t, s, token, c)
	}
	clear(m.waiting[c])
}

func (m *model) entry(t *rapid.T, c string) {
	slot := shard.Of(c)
	m.end[slot] += rapid.Uint64Range(1, 3).Draw(t, "step")
	e := entry(c, m.end[slot])
	m.log = append(m.log, e)
	n := 0
	for via, members := range m.members {
		if m.joined[via] == nil || !bayeux.Match(via, c) || e.At.Offset <= m.joined[via][slot] {
			continue
		}
		for s := range members {
			m.want[s] = append(m.want[s], fmt.Sprintf("%s %s@%d", via, c, e.At.Offset))
			n++
		}
	}
	if got := m.hub.Entry(e); got != n {
		t.Fatalf("delivered to %d, want %d", got, n)
	}
	if rapid.Bool().Draw(t, "again") {
		m.hub.Entry(e)
	}
}

func (m *model) resync(t *rapid.T, slot shard.Slot, c string) {
	if !bayeux.IsPattern(c) && shard.Of(c) != slot {
		return
	}
	at := m.end[slot] + rapid.Uint64Range(0, 2).Draw(t, "at")
	m.lossy[slot][c] = max(m.lossy[slot][c], at)
	if m.joined[c] != nil {
		m.joined[c][slot] = max(m.joined[c][slot], at)
	}
	for s := range m.members[c] {
		m.want[s] = append(m.want[s], fmt.Sprintf("resync %s@%d", c, m.after(c, slot)))
	}
	if told := m.hub.Resync(shard.Position{Slot: slot, Offset: at}, []string{c}); told != len(m.members[c]) {
		t.Fatalf("%d were told, want %d", told, len(m.members[c]))
	}
}

// replay: a ring answers with everything, and never over a loss.
func (m *model) replay(t *rapid.T, c string) {
	slot := shard.Of(c)
	since := rapid.Uint64Range(0, m.end[slot]+4).Draw(t, "since")
	limit := rapid.IntRange(1, 5).Draw(t, "limit")
	events, through, ok := m.hub.Replay(c, since, limit)
	if !ok {
		return
	}
	if m.lingers(c) {
		m.stay(c)
		m.linger = append(m.linger, lingering{name: c})
	}
	joined := m.joined[c]
	_, lossy := m.lossy[slot][c]
	if joined == nil || through < since || since < max(joined[slot], m.whole[c]) || lossy {
		t.Fatalf("%s since %d answered through %d, joined at %d", c, since, through, joined)
	}
	var want, got []uint64
	for _, e := range m.log {
		if e.Channel == c && e.At.Offset > since && e.At.Offset <= through {
			want = append(want, e.At.Offset)
		}
	}
	for _, e := range events {
		got = append(got, e.At.Offset)
	}
	if !slices.Equal(got, want) || len(got) > limit {
		t.Fatalf("%s in (%d, %d]: %v, want %v", c, since, through, got, want)
	}
}

func (m *model) from(t *rapid.T, c string) {
	from := m.hub.From(c)
	if (from != nil) != (m.joined[c] != nil) {
		t.Fatalf("%s is joined at %v, from is %v", c, m.joined[c], from)
	}
	for _, at := range from {
		if want := m.after(c, at.Slot); at.Offset != want {
			t.Fatalf("%s from %d in slot %d, want %d", c, at.Offset, at.Slot, want)
		}
	}
}

func (m *model) sweep(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.IntRange(1, 6).Draw(t, "seconds")) * time.Second)
	m.hub.Sweep(m.now)
	for i := range m.linger {
		if m.linger[i].since.IsZero() {
			m.linger[i].since = m.now
		}
	}
	m.linger = slices.DeleteFunc(m.linger, func(l lingering) bool { return m.now.Sub(l.since) >= m.cfg.Linger })
}

// check: per channel in order; the order between subscriptions is free.
func (m *model) check(t *rapid.T) {
	for slot, end := range m.end {
		if got := m.hub.Handed(slot); got != end {
			t.Fatalf("slot %d handed through %d, want %d", slot, got, end)
		}
	}
	for _, s := range m.subs {
		if s.owed {
			t.Fatalf("%s was not settled", s.name)
		}
		got := slices.Sorted(slices.Values(s.got))
		if diff := cmp.Diff(slices.Sorted(slices.Values(m.want[s])), got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", s.name, diff)
		}
	}
}
