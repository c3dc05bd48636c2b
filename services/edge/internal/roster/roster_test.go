package roster_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/internal/roster"
	watched "github.com/comet-push/comet/services/edge/internal/roster"
)

const (
	limit   = 5
	clients = 4
)

// page is what a client shows: it does what it is told.
type page struct {
	told      bool
	count     int
	truncated bool
	members   map[string]bool
}

type message struct {
	Count     *int
	Truncated bool
	Members   *[]struct{ Session string }
	Joined    []struct{ Session string }
	Left      []struct{ Session string }
}

// take takes a message, and returns what is wrong with it.
func (p *page) take(data []byte) error {
	var m message
	if err := json.Unmarshal(data, &m); err != nil || m.Count == nil {
		return fmt.Errorf("%s: %w", data, err)
	}
	p.count, p.truncated = *m.Count, m.Truncated
	switch {
	case m.Truncated:
		p.members, p.told = nil, true
		return nil
	case m.Members != nil:
		p.members, p.told = map[string]bool{}, true
		for _, each := range *m.Members {
			p.members[each.Session] = true
		}
	case !p.told || p.members == nil:
		return fmt.Errorf("a change of nothing: %s", data)
	}
	for _, each := range m.Left {
		if !p.members[each.Session] {
			return fmt.Errorf("%s leaves who was not there: %s", each.Session, data)
		}
		delete(p.members, each.Session)
	}
	for _, each := range m.Joined {
		if p.members[each.Session] {
			return fmt.Errorf("%s joins who was there: %s", each.Session, data)
		}
		p.members[each.Session] = true
	}
	if len(p.members) != p.count {
		return fmt.Errorf("%d members, the count says %d: %s", len(p.members), p.count, data)
	}
	return nil
}

// model is a roster, and what its watchers show.
type model struct {
	r      *watched.Roster[int]
	there  map[string]bool // in truth
	pages  map[int]*page
	full   map[int]bool // clients that cannot be told anything
	sent   roster.State // by the stream to presence
	listed bool
}

func (m *model) truth() roster.State {
	var members []roster.Member
	for _, s := range slices.Sorted(maps.Keys(m.there)) {
		members = append(members, roster.Member{Session: s, Since: time.Unix(1, 0)})
	}
	return roster.Of(members).Bound(limit, m.listed)
}

// hear has the stream say what is true now, or all of it if it begins.
func (m *model) hear(begins bool) {
	m.listed = m.listed || begins
	now := m.truth()
	c, differs := m.sent.Until(now)
	if begins {
		c, differs = now.Whole(), true
	}
	if m.sent, m.listed = now, now.Listed; differs {
		m.r.Learn(c)
	}
}

func (m *model) tell(t *rapid.T, data []byte, to []*watched.Watcher[int]) {
	if data == nil && len(to) > 0 {
		t.Fatalf("nothing is told to %d", len(to))
	}
	for _, w := range to {
		p := m.pages[w.Who]
		switch {
		case p == nil:
			t.Fatalf("%d is told, and does not watch", w.Who)
		case m.full[w.Who]:
			m.r.Told(w, false)
			continue
		}
		if err := p.take(data); err != nil {
			t.Fatalf("%d: %v", w.Who, err)
		}
		m.r.Told(w, true)
	}
}

func (m *model) pass(t *rapid.T) {
	data, to := m.r.News()
	m.tell(t, data, to)
	data, to = m.r.Owed()
	m.tell(t, data, to)
}

// TestRoster lets sessions and watchers come and go, streams break and queues be
// full: what pages are told makes sense, and in the end all show the truth.
func TestRoster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{r: watched.New[int](true), there: map[string]bool{}, pages: map[int]*page{}, full: map[int]bool{}}
		who := rapid.IntRange(0, clients-1)
		t.Repeat(map[string]func(*rapid.T){
			"session": func(t *rapid.T) {
				s := fmt.Sprint("s", rapid.IntRange(0, 8).Draw(t, "session"))
				if m.there[s] {
					delete(m.there, s)
				} else {
					m.there[s] = true
				}
			},
			"add": func(t *rapid.T) {
				c := who.Draw(t, "who")
				m.r.Add(c)
				m.pages[c] = &page{}
			},
			"remove": func(t *rapid.T) {
				c := who.Draw(t, "who")
				m.r.Remove(c)
				delete(m.pages, c)
			},
			"lose": func(t *rapid.T) {
				c := who.Draw(t, "who")
				if m.r.Owe(c); m.pages[c] != nil {
					m.pages[c] = &page{}
				}
			},
			"full":   func(t *rapid.T) { m.full[who.Draw(t, "who")] = rapid.Bool().Draw(t, "full") },
			"stream": func(*rapid.T) { m.hear(true) },
			"change": func(*rapid.T) { m.hear(m.sent.Count == 0 && !m.sent.Listed) },
			"pass":   m.pass,
		})
		clear(m.full)
		m.hear(true)
		m.pass(t)
		if m.r.Pending() || m.r.Len() != len(m.pages) {
			t.Fatalf("pending %v, %d watch, want %d", m.r.Pending(), m.r.Len(), len(m.pages))
		}
		for c, p := range m.pages {
			switch now := m.truth(); {
			case !p.told || p.count != len(m.there) || p.truncated == now.Listed:
				t.Fatalf("%d shows %+v, want %+v", c, p, now)
			case now.Listed && !maps.Equal(p.members, m.there):
				t.Fatalf("%d shows %v, want %v", c, p.members, m.there)
			}
		}
	})
}

// TestNoNewsOfWhatWentBack has a session leave and come back between two times at
// which something is told, and presence tell all of it again.
func TestNoNewsOfWhatWentBack(t *testing.T) {
	r := watched.New[int](true)
	one := roster.Of([]roster.Member{{Session: "a"}})
	r.Learn(one.Whole())
	r.News()
	r.Learn(roster.Of(nil).Whole())
	r.Learn(one.Whole())
	if r.Pending() {
		t.Error("something is to be told")
	}
}

func TestWhatIsTold(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.FixedZone("", 3600))
	one := roster.Of([]roster.Member{{Session: "a", User: "ann", Since: at}})
	two := roster.Of([]roster.Member{{Session: "b", Since: at}})
	for _, tt := range []struct {
		name        string
		members     bool
		from        roster.State
		to          roster.State
		whole, news string
	}{
		{
			"members", true, one, two,
			`{"count":1,"members":[{"session":"a","user":"ann","since":"2026-01-02T02:04:05.678Z"}]}`,
			`{"count":1,"joined":[{"session":"b","since":"2026-01-02T02:04:05.678Z"}],` +
				`"left":[{"session":"a","user":"ann","since":"2026-01-02T02:04:05.678Z"}]}`,
		},
		{
			"nobody", true, one, roster.Of(nil), `{"count":1,"members":[{"session":"a","user":"ann","since":"2026-01-02T02:04:05.678Z"}]}`,
			`{"count":0,"joined":[],"left":[{"session":"a","user":"ann","since":"2026-01-02T02:04:05.678Z"}]}`,
		},
		{"too many", true, roster.Of(nil), roster.Counted(1001), `{"count":0,"members":[]}`, `{"count":1001,"truncated":true}`},
		{"fewer", true, roster.Counted(1001), roster.Of(nil), `{"count":1001,"truncated":true}`, `{"count":0,"members":[]}`},
		{"counted", false, roster.Counted(0), roster.Counted(7), `{"count":0}`, `{"count":7}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := watched.New[int](tt.members)
			r.Add(1)
			if _, to := r.Owed(); to != nil {
				t.Error("told before anything is known")
			}
			r.Learn(tt.from.Whole())
			r.News()
			whole, to := r.Owed()
			if len(to) != 1 || string(whole) != tt.whole {
				t.Fatalf("whole is %s to %d, want %s", whole, len(to), tt.whole)
			}
			r.Told(to[0], true)
			c, _ := tt.from.Until(tt.to)
			r.Learn(c)
			if news, to := r.News(); len(to) != 1 || string(news) != tt.news {
				t.Errorf("news are %s to %d, want %s", news, len(to), tt.news)
			}
		})
	}
}

// BenchmarkNews is what one change of a full roster costs, for all watchers.
func BenchmarkNews(b *testing.B) {
	r := watched.New[int](true)
	var members []roster.Member
	for n := range roster.Most - 1 {
		members = append(members, roster.Member{Session: fmt.Sprintf("0123456789abcdef%04d", n), User: "somebody"})
	}
	r.Add(1)
	r.Learn(roster.Of(members).Whole())
	r.News()
	_, to := r.Owed()
	r.Told(to[0], true)
	other := []roster.Member{{Session: "another"}}
	for n := 0; b.Loop(); n++ {
		c := roster.Change{Count: roster.Most, Listed: true, Joined: other}
		if n%2 == 1 {
			c = roster.Change{Count: roster.Most - 1, Listed: true, Left: other}
		}
		r.Learn(c)
		if data, _ := r.News(); data == nil {
			b.Fatal("no news")
		}
	}
}
