package history

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
)

// model is the naive log next to a History: it keeps everything and says what
// should be retained and remembered.
type model struct {
	*feed
	tombstones int
	slotBytes  int
	logBytes   int
	ttl        time.Duration

	kept      map[string][]*Entry
	remember  map[string]*Entry // last entry of channels that are only remembered
	forgotten map[string]bool   // ever
	floor     uint64
	pinned    uint64
	start     uint64 // of the log, when last seen
}

func (m *model) add(channel string) {
	e := m.feed.add(channel)
	class := testClass(channel)
	if !class.Retains() {
		return
	}
	delete(m.remember, channel)
	m.kept[channel] = append(m.kept[channel], e)
	bytes := func() (n int) {
		for _, e := range m.kept[channel] {
			n += e.Size()
		}
		return n
	}
	for len(m.kept[channel]) > class.Messages || class.Bytes > 0 && bytes() > class.Bytes {
		m.drop(channel)
	}
	for m.footprint() > m.slotBytes {
		m.drop(m.oldest().Channel)
	}
	m.bury()
}

func (m *model) footprint() (n int) {
	for _, entries := range m.kept {
		for _, e := range entries {
			n += takes(e)
		}
	}
	return n
}

func (m *model) oldest() *Entry {
	var oldest *Entry
	for _, entries := range m.kept {
		if oldest == nil || entries[0].Offset < oldest.Offset {
			oldest = entries[0]
		}
	}
	return oldest
}

func (m *model) drop(channel string) {
	if len(m.kept[channel]) == 1 {
		m.remember[channel] = m.kept[channel][0]
		delete(m.kept, channel)
		return
	}
	m.kept[channel] = m.kept[channel][1:]
}

func (m *model) pass(d time.Duration) {
	m.feed.pass(d)
	for channel, entries := range m.kept {
		age := testClass(channel).Age
		for _, e := range entries {
			if age > 0 && !m.now.Before(time.UnixMilli(e.Time).Add(age)) {
				m.drop(channel)
			}
		}
	}
	m.bury()
	for channel, e := range m.remember {
		if !m.now.Before(time.UnixMilli(e.Time).Add(m.ttl)) {
			m.forget(channel)
		}
	}
}

// bury forgets what is too much to remember.
func (m *model) bury() {
	for len(m.remember) > m.tombstones {
		first := ""
		for channel, e := range m.remember {
			if first == "" || e.Offset < m.remember[first].Offset {
				first = channel
			}
		}
		m.forget(first)
	}
}

func (m *model) forget(channel string) {
	m.floor = max(m.floor, m.remember[channel].Offset)
	m.forgotten[channel] = true
	delete(m.remember, channel)
}

// truth returns the entries of a channel after an offset, and whether all of
// them are retained.
func (m *model) truth(channel string, since uint64) (entries []*Entry, retained bool) {
	retained = true
	for _, e := range m.log {
		if e.Channel == channel && e.Offset > since {
			entries = append(entries, e)
			retained = retained && slices.Contains(m.kept[channel], e)
		}
	}
	return entries, retained
}

func (m *model) checkRead(t *rapid.T, q Query) {
	page := m.Read(q)
	entries, retained := m.truth(q.Channel, q.Since)
	if page.Through < q.Since || page.Through > m.Committed() {
		t.Fatalf("%+v: through %d", q, page.Through)
	}
	if !testClass(q.Channel).Retains() {
		if page.Lost || len(page.Entries) > 0 {
			t.Fatalf("%+v: a channel without history answered %+v", q, page)
		}
		return
	}
	if page.Lost {
		if retained && !m.forgotten[q.Channel] && q.Since >= m.floor {
			t.Fatalf("%+v: lost while all is retained", q)
		}
		return
	}
	var want []*Entry
	if q.Reverse {
		want = slices.Clone(entries[max(0, len(entries)-q.Limit):])
		slices.Reverse(want)
	} else {
		want = entries[:min(len(entries), q.Limit)]
		for _, e := range entries[len(want):] {
			if e.Offset <= page.Through {
				t.Fatalf("%+v: through %d covers entry %d, which is not there", q, page.Through, e.Offset)
			}
		}
	}
	if !same(page.Entries, want) {
		t.Fatalf("%+v: a part: got %s, want %s", q, offsets(page.Entries), offsets(want))
	}
}

func (m *model) checkPattern(t *rapid.T, pattern string, since uint64) {
	all, forgotten := true, false
	for _, channel := range modelChannels {
		if bayeux.Match(pattern, channel) && testClass(channel).Retains() {
			_, retained := m.truth(channel, since)
			all = all && retained
			forgotten = forgotten || m.forgotten[channel]
		}
	}
	switch complete := m.Complete(pattern, since); {
	case complete && !all:
		t.Fatalf("%s since %d: complete, but entries are gone", pattern, since)
	case !complete && all && !forgotten && since >= m.floor:
		t.Fatalf("%s since %d: incomplete, but all is retained", pattern, since)
	}
}

// checkState compares what is retained and remembered (R12).
func (m *model) checkState(t *rapid.T) {
	var kept []*Entry
	for _, entries := range m.kept {
		kept = append(kept, entries...)
	}
	slices.SortFunc(kept, func(a, b *Entry) int { return int(a.Offset) - int(b.Offset) })
	if got := m.retained(base); !same(got, kept) {
		t.Fatalf("retained %s, want %s", offsets(got), offsets(kept))
	}
	for _, channel := range modelChannels {
		entries, _ := m.truth(channel, base)
		prev := m.Tail(channel).Prev
		if !testClass(channel).Retains() || len(entries) == 0 {
			continue
		}
		last := entries[len(entries)-1].Offset
		remembered := m.kept[channel] != nil || m.remember[channel] != nil
		if prev < last || remembered && prev != last {
			t.Fatalf("%s: prev %d of an entry after %d (remembered: %v)", channel, prev, last, remembered)
		}
	}
	if floor := m.Tail("/a/never/used").Prev; floor != m.floor {
		t.Fatalf("floor %d, want %d", floor, m.floor)
	}
}

// checkLog reads the log's end, whatever is retained of it.
func (m *model) checkLog(t *rapid.T, after uint64, bytes int) {
	rest := m.log[after-base:]
	n, cost := 0, 0
	for n < len(rest) && (n == 0 || cost+rest[n].Cost() <= bytes) {
		cost += rest[n].Cost()
		n++
	}
	if got := m.Log(after, bytes); !same(got, rest[:n]) {
		t.Fatalf("log after %d: %s, want %s", after-base, offsets(got), offsets(rest[:n]))
	}
}

// checkChunks looks at what is kept: all that is retained, and the end of the
// log as far as its bounds have it; and that it takes no more than that.
func (m *model) checkChunks(t *rapid.T) {
	recent := 0
	for i, e := range slices.Backward(m.log) {
		inside := e.Offset > m.Start()
		size := takes(e)
		if want := recent+size <= m.logBytes; want && !inside && e.Offset > m.start {
			t.Fatalf("log from %d lacks %d", m.Start()-base, i+1)
		}
		if inside {
			recent += size
		}
	}
	if m.start = m.Start(); recent > m.logBytes && (m.start < m.pinned || recent > pinned*m.logBytes) {
		t.Fatalf("log from %d takes %d bytes", m.Start()-base, recent)
	}
	live := make([]int, len(m.chunks.all))
	for _, it := range m.order.items[m.order.head:] {
		switch wanted := it.at() > m.Start() || it.retained(); {
		case it.empty() == wanted:
			t.Fatalf("entry %d is kept: %v", it.at()-base, wanted)
		case wanted:
			e := m.chunks.at(it.place).Entry()
			if !same([]*Entry{e}, m.log[it.at()-base-1:it.at()-base]) {
				t.Fatalf("entry %d is %+v", it.at()-base, e)
			}
			live[it.place.chunk()] += takes(e) - footprint(0)
		}
	}
	taken, needed := make([]int, len(m.classes)), make([]int, len(m.classes))
	for i, c := range m.chunks.all {
		if c.live != live[i] || (c.live == 0) != (c.data == nil) && !m.chunks.filling(i) {
			t.Fatalf("chunk %d of %d bytes: %d live, want %d", i, len(c.data), c.live, live[i])
		}
		taken[c.class] += cap(c.data)
		needed[c.class] += c.live
	}
	for class, of := range m.chunks.classes {
		if most := 4*needed[class] + 3*m.chunks.most; of.live != needed[class] || taken[class] > most {
			t.Fatalf("class %d: %d bytes live, want %d; in chunks of %d bytes, want at most %d", class, of.live, needed[class], taken[class], most)
		}
	}
}

var modelChannels = []string{"/a/1", "/a/2", "/s/1", "/s/2", "/c/1", "/c/2", "/b/1", "/n/1"}

func TestHistoryAgainstTheWholeLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			tombstones: rapid.IntRange(1, 5).Draw(t, "tombstones"),
			slotBytes:  rapid.IntRange(1, 20).Draw(t, "entries of the slot") * 68,
			ttl:        rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 3 * time.Hour}).Draw(t, "ttl"),
			kept:       map[string][]*Entry{},
			remember:   map[string]*Entry{},
			forgotten:  map[string]bool{},
			floor:      base,
			pinned:     noPin,
			start:      base,
		}
		m.logBytes = rapid.IntRange(1, 20).Draw(t, "entries of the log") * 68
		m.feed = newFeed(Config{Bytes: m.slotBytes, LogBytes: m.logBytes, Tombstones: m.tombstones, PositionTTL: m.ttl})
		m.chunks.sizes = sizes{least: 100, most: 400}
		channel := rapid.SampledFrom(modelChannels)
		since := func(t *rapid.T) uint64 {
			return rapid.Uint64Range(base, m.Committed()).Draw(t, "since")
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) { m.add(channel.Draw(t, "channel")) },
			"add again": func(t *rapid.T) {
				for range rapid.IntRange(1, 5).Draw(t, "times") {
					m.add(channel.Draw(t, "channel"))
				}
			},
			"pass": func(t *rapid.T) {
				m.pass(rapid.SampledFrom([]time.Duration{
					time.Millisecond, 400 * time.Millisecond, time.Second, time.Minute, time.Hour,
				}).Draw(t, "time"))
			},
			"read": func(t *rapid.T) {
				m.checkRead(t, Query{
					Channel: channel.Draw(t, "channel"),
					Since:   since(t),
					Limit:   rapid.IntRange(1, 6).Draw(t, "limit"),
					Reverse: rapid.Bool().Draw(t, "reverse"),
				})
			},
			"pattern": func(t *rapid.T) {
				m.checkPattern(t, rapid.SampledFrom([]string{"/a/*", "/s/*", "/c/**", "/n/*", "/**", "/x/**"}).Draw(t, "pattern"), since(t))
			},
			"names": func(t *rapid.T) {
				names := append([]string{"/a/*", "/s/*", "/c/**", "/n/*", "/**", "/x/**", "/x"}, modelChannels...)
				q := Query{
					Names:    rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 4, rapid.ID).Draw(t, "names"),
					Limit:    rapid.IntRange(1, 6).Draw(t, "limit"),
					Earliest: rapid.Bool().Draw(t, "earliest"),
				}
				if !q.Earliest {
					q.Since = since(t)
				}
				m.checkNames(t, q)
			},
			"pin": func(t *rapid.T) {
				m.pinned = rapid.SampledFrom([]uint64{since(t), noPin}).Draw(t, "pin")
				m.Pin(m.pinned)
			},
			"log": func(t *rapid.T) {
				m.checkLog(t, rapid.Uint64Range(m.Start(), m.Committed()).Draw(t, "after"), rapid.IntRange(0, 500).Draw(t, "bytes"))
			},
			"": func(t *rapid.T) {
				m.checkState(t)
				m.checkChunks(t)
			},
		})
	})
}
