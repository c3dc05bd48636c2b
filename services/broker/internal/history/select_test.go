package history

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
)

func TestReadNames(t *testing.T) {
	f := newFeed(Config{Tombstones: 2})
	addAll(f, "/c/x", 3) // 1 2 3
	f.add("/a/y")        // 4
	addAll(f, "/c/x", 3) // 5 6 7; 1 2 are dropped
	f.add("/s/z")        // 8
	f.add("/n/x")        // 9, not retained
	f.pass(2 * time.Second)
	f.add("/a/y") // 10
	tests := []struct {
		name    string
		names   string
		q       Query
		want    string
		through uint64
		gone    string
		lost    bool
	}{
		{"literals", "/c/x /a/y", Query{Since: 2, Limit: 9}, "3 4 5 6 7 10", 10, "", false},
		{"pattern", "/a/*", Query{Since: 0, Limit: 9}, "4 10", 10, "", false},
		{"both, each entry once", "/a/* /a/y /a/**", Query{Since: 0, Limit: 9}, "4 10", 10, "", false},
		{"page", "/a/* /c/x", Query{Since: 2, Limit: 3}, "3 4 5", 5, "", false},
		{"page that is just full", "/a/* /c/x", Query{Since: 4, Limit: 4}, "5 6 7 10", 10, "", false},
		{"page of literals", "/a/y /c/x", Query{Since: 2, Limit: 3}, "3 4 5", 5, "", false},
		{"a literal lost", "/a/y /c/x", Query{Since: 1, Limit: 9}, "4 10", 10, "/c/x", false},
		{"a pattern lost by retention", "/a/* /c/*", Query{Since: 1, Limit: 9}, "4 10", 10, "/c/*", false},
		{"a pattern lost by age", "/a/* /s/**", Query{Since: 7, Limit: 9}, "10", 10, "/s/**", false},
		{"by age, but after it", "/s/**", Query{Since: 8, Limit: 9}, "", 10, "", false},
		{"the wide one lost, the narrow not", "/** /a/y", Query{Since: 7, Limit: 9}, "10", 10, "/**", false},
		{"the wide one lost, page", "/** /a/y", Query{Since: 1, Limit: 1}, "4", 4, "/**", false},
		{"all lost", "/** /c/x", Query{Since: 1, Limit: 9}, "", 10, "/** /c/x", true},
		{"earliest is never lost", "/** /c/x", Query{Earliest: true, Limit: 9}, "3 4 5 6 7 10", 10, "", false},
		{"earliest, page", "/**", Query{Earliest: true, Limit: 2}, "3 4", 4, "", false},
		{"without history", "/n/x /n/*", Query{Since: 0, Limit: 9}, "", 10, "", false},
		{"never used", "/z/* /z/y", Query{Since: 0, Limit: 9}, "", 10, "", false},
		{"at the end", "/** /a/y", Query{Since: 10, Limit: 9}, "", 10, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.q.Since += base
			tt.q.Names = strings.Fields(tt.names)
			page := f.Read(tt.q)
			check(t, "entries", offsets(page.Entries), tt.want)
			check(t, "through", page.Through-base, tt.through)
			check(t, "gone", strings.Join(page.Gone, " "), tt.gone)
			check(t, "lost", page.Lost, tt.lost)
		})
	}
}

// Below the floor nobody knows which channels there were: every pattern is
// lost, and so is each channel that is not remembered.
func TestReadNamesBelowTheFloor(t *testing.T) {
	f := newFeed(Config{Tombstones: 1})
	for _, name := range []string{"/s/1", "/s/2"} { // 1 2; the first is forgotten
		f.add(name)
		f.pass(2 * time.Second)
	}
	f.add("/a/x") // 3
	q := Query{Names: []string{"/a/*", "/a/x", "/s/1", "/s/2", "/z"}, Since: base, Limit: 9}
	page := f.Read(q)
	check(t, "gone below it", strings.Join(page.Gone, " "), "/a/* /a/x /s/1 /s/2 /z")
	q.Since = base + 1
	page = f.Read(q)
	check(t, "gone above it", strings.Join(page.Gone, " "), "/s/2")
	check(t, "entries", offsets(page.Entries), "3")
}

// checkNames reads several channels and patterns as if each were read alone.
func (m *model) checkNames(t *rapid.T, q Query) {
	page := m.Read(q)
	var given []string // names that are answered
	for _, name := range q.Names {
		if !slices.Contains(page.Gone, name) {
			given = append(given, name)
		}
	}
	if page.Lost != (len(given) == 0) || q.Earliest && len(page.Gone) > 0 {
		t.Fatalf("%+v: lost %v, gone %v", q, page.Lost, page.Gone)
	}
	for _, name := range q.Names {
		m.checkGone(t, q, name, slices.Contains(page.Gone, name))
	}
	var want []*Entry
	for _, e := range m.log {
		matches := slices.ContainsFunc(given, func(name string) bool { return bayeux.Match(name, e.Channel) })
		kept := slices.Contains(m.kept[e.Channel], e)
		if matches && e.Offset <= page.Through && (kept || !q.Earliest) && testClass(e.Channel).Retains() && (q.Earliest || e.Offset > q.Since) {
			want = append(want, e)
		}
	}
	if !same(page.Entries, want) || len(want) > q.Limit {
		t.Fatalf("%+v through %d: got %s, want %s", q, page.Through, offsets(page.Entries), offsets(want))
	}
	if page.Through != m.Committed() && (len(want) < q.Limit || page.Through != want[len(want)-1].Offset) {
		t.Fatalf("%+v: a page of %s ends at %d", q, offsets(want), page.Through)
	}
}

// checkGone: nothing that is gone is answered, and nothing is gone in vain.
func (m *model) checkGone(t *rapid.T, q Query, name string, gone bool) {
	if q.Earliest {
		return
	}
	all, forgotten := true, q.Since < m.floor
	for _, channel := range modelChannels {
		if bayeux.Match(name, channel) && testClass(channel).Retains() {
			_, retained := m.truth(channel, q.Since)
			all = all && retained
			forgotten = forgotten || m.forgotten[channel]
		}
	}
	if gone && all && !forgotten || !gone && !all {
		t.Fatalf("%+v: %s is gone: %v; all is retained: %v", q, name, gone, all)
	}
}
