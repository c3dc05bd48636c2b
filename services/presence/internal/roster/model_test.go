package roster

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is the roster as one would say it: who is where, on what.
type model struct {
	real *Roster
	now  time.Time

	feeds    []*Feed          // also those that are over
	feedEdge []string         // of feeds
	current  map[string]*Feed // by edge; nil: not fed
	lost     map[string]time.Time
	synced   map[string]bool
	sessions map[string]*modelSession
	watches  []*modelWatch
}

type modelSession struct {
	edge, user string
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
			real: New(Limits{Sessions: 100, Channels: 10, Watches: 4, Queue: 6}), now: time.Unix(1000, 0),
			current: map[string]*Feed{}, lost: map[string]time.Time{}, synced: map[string]bool{},
			sessions: map[string]*modelSession{},
		}
		t.Repeat(map[string]func(*rapid.T){
			"attach": m.attach, "synced": m.sync, "end": m.end, "present": m.present, "subscribed": m.subscribe,
			"unsubscribed": m.unsubscribe, "gone": m.gone, "expire": m.expire, "watch": m.watch, "next": m.next,
			"": m.check,
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
	if s := m.sessions[id]; s != nil && s.edge == edge && current {
		return s
	}
	return nil
}

func channels(t *rapid.T) []string {
	return rapid.SliceOfN(rapid.SampledFrom(modelChannels), 0, 4).Draw(t, "channels")
}

func (m *model) attach(t *rapid.T) {
	edge := rapid.SampledFrom(modelEdges).Draw(t, "edge")
	f := m.real.Attach(edge)
	m.feeds, m.feedEdge = append(m.feeds, f), append(m.feedEdge, edge)
	m.current[edge] = f
	delete(m.lost, edge)
}

func (m *model) sync(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	f.Synced()
	if !current {
		return
	}
	m.synced[edge] = true
	for id, s := range m.sessions {
		if s.edge == edge && s.by != f {
			delete(m.sessions, id)
		}
	}
}

func (m *model) end(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	f.End(m.now)
	if current {
		m.current[edge] = nil
		m.lost[edge] = m.now
	}
}

func (m *model) present(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	id := rapid.SampledFrom(modelIDs).Draw(t, "id")
	st := State{User: rapid.SampledFrom([]string{"", "u", "v"}).Draw(t, "user"), Since: m.now.Add(-time.Minute), Channels: channels(t)}
	if err := f.Present(id, st, m.now); err != nil {
		t.Fatal(err)
	}
	if !current {
		return
	}
	old, since := m.sessions[id], m.now
	if old == nil || old.user != st.User {
		old, since = &modelSession{}, st.Since
	}
	s := &modelSession{edge: edge, user: st.User, by: f, channels: map[string]time.Time{}}
	for _, c := range st.Channels {
		s.channels[c] = since
		if was, on := old.channels[c]; on {
			s.channels[c] = was
		}
	}
	m.sessions[id] = s
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
	f.Unsubscribed(id, names)
	if s := m.own(id, edge, current); s != nil {
		for _, c := range names {
			delete(s.channels, c)
		}
	}
}

func (m *model) gone(t *rapid.T) {
	f, edge, current := m.edgeOf(t)
	id := rapid.SampledFrom(modelIDs).Draw(t, "id")
	f.Gone(id)
	if m.own(id, edge, current) != nil {
		delete(m.sessions, id)
	}
}

func (m *model) expire(t *rapid.T) {
	m.now = m.now.Add(rapid.SampledFrom([]time.Duration{time.Second, 9 * time.Second}).Draw(t, "later"))
	announced := rapid.SliceOfDistinct(rapid.SampledFrom(modelEdges), func(e string) string { return e }).Draw(t, "announced")
	got := m.real.Expire(m.now, modelGrace, func(e string) bool { return slices.Contains(announced, e) })
	var want []string
	for edge, lost := range m.lost {
		if m.now.Sub(lost) >= modelGrace || !slices.Contains(announced, edge) {
			want = append(want, edge)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("expired edges (-want +got):\n%s", diff)
	}
	for _, edge := range want {
		delete(m.lost, edge)
		delete(m.current, edge)
		delete(m.synced, edge)
		for id, s := range m.sessions {
			if s.edge == edge {
				delete(m.sessions, id)
			}
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
	for _, edge := range modelEdges {
		if !m.synced[edge] {
			missing = append(missing, edge)
		}
	}
	if diff := cmp.Diff(missing, m.real.Missing(modelEdges)); diff != "" {
		t.Fatalf("missing edges (-want +got):\n%s", diff)
	}
	for _, name := range modelChannels {
		var want []Member
		for _, id := range modelIDs {
			if s := m.sessions[id]; s != nil {
				if since, on := s.channels[name]; on {
					want = append(want, Member{Session: id, User: s.user, Edge: s.edge, Since: since})
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
		for _, s := range m.real.Of(user, 1000) {
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
