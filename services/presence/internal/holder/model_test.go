package holder

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// model is the holder as one would say it: who is where, on what.
type model struct {
	real *Holder
	now  time.Time

	feeds     []*Feed          // also those that are over
	feedEdge  []string         // of feeds
	current   map[string]*Feed // by edge; nil: not fed
	announced []string
	synced    map[string]bool
	sessions  map[string]*modelSession
	tombs     map[string]tomb
	watches   []*modelWatch
}

type modelSession struct {
	edge, user string
	lost       time.Time
	claimed    time.Time
	generation uint64
	by         *Feed // who named it last
	channels   map[string]time.Time
}

// modelWatch is a watch, and whom it believes to be there.
type modelWatch struct {
	*Watch
	channel string
	told    map[string]bool
}

const modelGrace = 10 * time.Second

var (
	modelEdges    = []string{"e1@1", "e1@2", "e2@1"}
	modelIDs      = []string{"a", "b", "c", "d", "e", "f"}
	modelChannels = []string{"/x", "/y", "/z/**"}
)

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			real: New(Config{Sessions: 100, Channels: 10, Tombstones: 100, Watches: 4, Queue: 6, Grace: modelGrace}), now: time.Unix(1000, 0),
			current: map[string]*Feed{}, synced: map[string]bool{}, sessions: map[string]*modelSession{}, tombs: map[string]tomb{},
		}
		m.real.SetHeld(all(1, true))
		m.real.SetEdges(nil, m.now)
		t.Repeat(map[string]func(*rapid.T){
			"attach": m.attach, "synced": m.sync, "end": m.end, "present": m.present, "subscribed": m.subscribe,
			"unsubscribed": m.unsubscribe, "gone": m.gone, "tick": m.tick, "announce": m.announce, "claim": m.claim,
			"watch": m.watch, "next": m.next, "": m.check,
		})
	})
}

func (m *model) edgeOf(t *rapid.T) (f *Feed, edge string, current bool) {
	if len(m.feeds) == 0 {
		t.Skip("no feeds")
	}
	i := rapid.IntRange(0, len(m.feeds)-1).Draw(t, "feed")
	return m.feeds[i], m.feedEdge[i], m.current[m.feedEdge[i]] == m.feeds[i]
}

// own returns the session if it may be spoken of by the feed.
func (m *model) own(id, edge string, current bool) *modelSession {
	if s := m.sessions[id]; s != nil && s.edge == edge && s.lost.IsZero() && s.claimed.IsZero() && current {
		return s
	}
	return nil
}

func generation(t *rapid.T) uint64 { return rapid.Uint64Range(1, 4).Draw(t, "generation") }

func channels(t *rapid.T) []string {
	return rapid.SliceOfN(rapid.SampledFrom(modelChannels), 0, 4).Draw(t, "channels")
}

func (m *model) attach(t *rapid.T) {
	edge := rapid.SampledFrom(modelEdges).Draw(t, "edge")
	f, err := m.real.Attach(edge, func() {})
	if there := slices.Contains(m.announced, edge); there != (err == nil) {
		t.Fatalf("attach %s, announced %v: %v", edge, there, err)
	}
	if err != nil {
		return
	}
	m.feeds, m.feedEdge = append(m.feeds, f), append(m.feedEdge, edge)
	m.current[edge] = f
}

func (m *model) announce(t *rapid.T) {
	was := m.announced
	m.announced = rapid.SliceOfDistinct(rapid.SampledFrom(modelEdges), func(e string) string { return e }).Draw(t, "announced")
	m.real.SetEdges(m.announced, m.now)
	for _, edge := range was {
		if slices.Contains(m.announced, edge) {
			continue
		}
		delete(m.current, edge)
		delete(m.synced, edge)
		for _, s := range m.sessions {
			if s.edge == edge && s.lost.IsZero() {
				s.lost = m.now
			}
		}
	}
}

func (m *model) sync(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	for n := range shard.PresenceShard(shard.PresenceShards) {
		f.Sync(n, m.now)
	}
	if !current {
		return
	}
	m.synced[edge] = true
	for id := range m.sessions {
		if s := m.own(id, edge, true); s != nil && s.by != f {
			m.over(id, s.generation)
		}
	}
}

// over ends a session.
func (m *model) over(id string, g uint64) {
	delete(m.sessions, id)
	if m.tombs[id].generation.Count < g {
		m.tombs[id] = tomb{home.Generation{Epoch: 1, Count: g}, m.now}
	}
}

func (m *model) end(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	f.End()
	if current {
		delete(m.current, edge)
	}
}

func (m *model) present(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	id, g := rapid.SampledFrom(modelIDs).Draw(t, "id"), generation(t)
	st := State{
		User: rapid.SampledFrom([]string{"", "u", "v"}).Draw(t, "user"), Since: m.now.Add(-time.Minute), Channels: channels(t),
		Generation: home.Generation{Epoch: 1, Count: g},
	}
	if err := f.Present(id, st, m.now); err != nil {
		t.Fatal(err)
	}
	old, since := m.sessions[id], m.now
	switch {
	case !current, g <= m.tombs[id].generation.Count,
		old != nil && (g < old.generation || g == old.generation && (old.edge != edge || !old.lost.IsZero())):
		return
	case old == nil:
		old, since = &modelSession{}, st.Since
	}
	s := &modelSession{edge: edge, user: st.User, by: f, generation: g, channels: map[string]time.Time{}}
	for _, c := range st.Channels {
		s.channels[c] = since
		if was, on := old.channels[c]; on {
			s.channels[c] = was
		}
	}
	m.sessions[id] = s
}

func (m *model) claim(t *rapid.T) {
	edge, id, g := rapid.SampledFrom(modelEdges).Draw(t, "edge"), rapid.SampledFrom(modelIDs).Draw(t, "id"), generation(t)
	got, err := m.real.Claim(id, edge, home.Generation{Epoch: 1, Count: g}, m.now)
	s := m.sessions[id]
	want, ready := error(nil), !slices.ContainsFunc(m.announced, func(e string) bool { return !m.synced[e] })
	_, over := m.tombs[id]
	switch {
	case !ready:
		want = ErrNotReady
	case s == nil && over:
		want = ErrOver
	case s == nil:
		want = ErrUnknown
	case !slices.Contains(m.announced, edge):
		want = ErrAbsent
	case s.generation != g:
		var stale *StaleError
		if !errors.As(err, &stale) || stale.Home != s.edge || stale.Lost == s.lost.IsZero() {
			t.Fatalf("claim of %s in %d: %v, want stale", id, g, err)
		}
		return
	}
	if !errors.Is(err, want) || err != nil && want == nil {
		t.Fatalf("claim of %s: %v, want %v", id, err, want)
	}
	if want == nil {
		s.edge, s.lost, s.claimed = edge, time.Time{}, m.now
		if s.generation++; got.Generation.Count != s.generation {
			t.Fatalf("claimed in %v, want %d", got.Generation, s.generation)
		}
	}
}

func (m *model) subscribe(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	id, names := rapid.SampledFrom(modelIDs).Draw(t, "id"), channels(t)
	if err := f.Subscribed(id, names, m.now); err != nil {
		t.Fatal(err)
	}
	if s := m.own(id, edge, current); s != nil {
		for _, c := range names {
			if _, on := s.channels[c]; !on {
				s.channels[c] = m.now
			}
		}
	}
}

func (m *model) unsubscribe(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	id, names := rapid.SampledFrom(modelIDs).Draw(t, "id"), channels(t)
	f.Unsubscribed(id, names, m.now)
	if s := m.own(id, edge, current); s != nil {
		for _, c := range names {
			delete(s.channels, c)
		}
	}
}

func (m *model) gone(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	id, g := rapid.SampledFrom(modelIDs).Draw(t, "id"), generation(t)
	reason := rapid.SampledFrom([]string{"disconnect", Moved}).Draw(t, "reason")
	f.Gone(id, home.Generation{Epoch: 1, Count: g}, reason, m.now)
	s := m.sessions[id]
	switch {
	case !current:
	case reason == Moved:
		if s != nil && s.edge == edge && s.generation == g && s.lost.IsZero() {
			s.lost = m.now
		}
	case s == nil || g > s.generation || g == s.generation && s.edge == edge:
		m.over(id, g)
	}
}

func (m *model) tick(t *rapid.T) {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 9 * time.Second, 31 * time.Second}).Draw(t, "later"))
	m.real.Tick(m.now)
	for id, tomb := range m.tombs {
		if m.now.Sub(tomb.at) >= remember {
			delete(m.tombs, id)
		}
	}
	for id, s := range m.sessions {
		if !s.claimed.IsZero() && m.now.Sub(s.claimed) >= install && s.lost.IsZero() {
			s.lost = m.now
		}
		if !s.lost.IsZero() && m.now.Sub(s.lost) >= modelGrace {
			m.over(id, s.generation)
		}
	}
}

func (m *model) watch(t *rapid.T) {
	name := rapid.SampledFrom(modelChannels).Draw(t, "channel")
	w, err := m.real.Watch(name, func() {})
	if full := len(m.watches) == 4; full != errors.Is(err, ErrLimit) {
		t.Fatalf("watch with %d others: %v", len(m.watches), err)
	}
	if err == nil {
		m.watches = append(m.watches, &modelWatch{Watch: w, channel: name, told: map[string]bool{}})
	}
}

func (m *model) next(t *rapid.T) {
	if len(m.watches) == 0 {
		t.Skip("no watches")
	}
	i := rapid.IntRange(0, len(m.watches)-1).Draw(t, "watch")
	w := m.watches[i]
	events, err := w.Next()
	if errors.Is(err, ErrSlow) {
		w.Close()
		m.watches = slices.Delete(m.watches, i, i+1)
		return
	}
	for _, e := range events {
		if w.told[e.Member.Session] == e.Joined {
			t.Fatalf("watch is told again: %+v", e)
		}
		if w.told[e.Member.Session] = e.Joined; !e.Joined {
			delete(w.told, e.Member.Session)
		}
		if int(e.Count) != len(w.told) {
			t.Fatalf("event counts %d members, told of %d", e.Count, len(w.told))
		}
	}
	for id, s := range m.sessions {
		if _, on := s.channels[w.channel]; on != w.told[id] {
			t.Fatalf("session %s on %s: %v, watch believes %v", id, w.channel, on, w.told[id])
		}
	}
	for id := range w.told {
		if m.sessions[id] == nil {
			t.Fatalf("watch believes in %s, which is gone", id)
		}
	}
}

// check compares all that can be asked.
func (m *model) check(t *rapid.T) {
	if m.real.Sessions() != len(m.sessions) || m.real.Watches() != len(m.watches) || m.real.Edges() != len(m.current) {
		t.Fatalf("%d sessions, %d watches, %d edges; want %d, %d, %d", m.real.Sessions(), m.real.Watches(), m.real.Edges(),
			len(m.sessions), len(m.watches), len(m.current))
	}
	var missing []string
	for _, edge := range slices.Sorted(slices.Values(m.announced)) {
		if !m.synced[edge] {
			missing = append(missing, edge)
		}
	}
	if got, _ := m.real.Missing(); !slices.Equal(got, missing) {
		t.Fatalf("edges %v are missing, want %v", got, missing)
	}
	for _, name := range modelChannels {
		var want []Member
		for _, id := range modelIDs {
			if s := m.sessions[id]; s != nil {
				if since, on := s.channels[name]; on {
					want = append(want, Member{
						Session: id, User: s.user, Edge: s.edge, Generation: home.Generation{Epoch: 1, Count: s.generation}, Since: since,
					})
				}
			}
		}
		if diff := cmp.Diff(want, m.real.Members(name, 1000)); diff != "" {
			t.Fatalf("members of %s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(want[:min(2, len(want))], m.real.Members(name, 2), equateEmpty()); diff != "" {
			t.Fatalf("first two members of %s (-want +got):\n%s", name, diff)
		}
		if m.real.Count(name) != len(want) {
			t.Fatalf("count of %s is %d, want %d", name, m.real.Count(name), len(want))
		}
	}
	for _, user := range []string{"", "u", "v"} {
		var want, got []string
		for _, id := range modelIDs {
			if s := m.sessions[id]; s != nil && (user == "" || s.user == user) {
				want = append(want, fmt.Sprint(id, s.edge, s.user, len(s.channels)))
			}
		}
		for _, s := range m.real.Of(user, "", 1000) {
			got = append(got, fmt.Sprint(s.ID, s.Edge, s.User, len(s.Channels)))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("sessions of %q (-want +got):\n%s", user, diff)
		}
	}
}

func equateEmpty() cmp.Option {
	return cmp.FilterValues(func(a, b []Member) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())
}
