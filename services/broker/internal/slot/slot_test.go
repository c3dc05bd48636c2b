package slot

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

const base = 5000

func newSlot(change func(*Config)) *Slot {
	cfg := Config{Term: 7, Base: base, Retention: history.Config{Class: func(channel string) history.Class {
		if strings.HasPrefix(channel, "/n/") {
			return history.Class{}
		}
		return history.Class{Messages: 100, MessageBytes: 50}
	}}}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

func start() time.Time { return time.Unix(1_700_000_000, 0) }

func pub(channel, key, data string) Publication {
	return Publication{Channel: channel, Key: key, Data: []byte(data)}
}

// outcome appends and says what came of it, with the offset relative to base.
func outcome(s *Slot, p Publication, now time.Time) string {
	switch r, err := s.Append(p, now); {
	case err != nil:
		return err.Error()
	case r.Duplicate:
		return fmt.Sprint("duplicate ", r.Offset-base)
	default:
		return fmt.Sprint(r.Offset - base)
	}
}

func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// CORRECTNESS rule 10: a reader's position moves with the commit mark of the
// slot, so that a quiet channel is still complete long after its entry is gone.
func TestRule10PositionsMoveWithTheSlot(t *testing.T) {
	s := newSlot(func(c *Config) {
		c.Retention.PositionTTL = time.Minute
		c.Retention.Class = func(string) history.Class { return history.Class{Messages: 10, Age: time.Second} }
	})
	now := start()
	outcome(s, pub("/quiet", "", "1"), now)
	s.Commit(s.End())
	stale := s.Committed()
	for range 300 { // five minutes of traffic elsewhere
		outcome(s, pub("/busy", "", "1"), now)
		s.Commit(s.End())
		now = now.Add(time.Second)
		for s.Expire(now, 10) {
		}
	}
	page, err := s.Read(history.Query{Channel: "/quiet", Since: stale - 1, Limit: 1})
	if err != nil || !page.Lost {
		t.Errorf("what is gone was not lost: %+v, %v", page, err)
	}
	for _, since := range []uint64{stale, s.Committed() - 30, s.Committed()} {
		page, err := s.Read(history.Query{Channel: "/quiet", Since: since, Limit: 1})
		if err != nil || page.Lost || page.Through != s.Committed() {
			t.Errorf("position %d on a quiet channel: %+v, %v", since-base, page, err)
		}
	}
}

// CORRECTNESS rule 13: a duplicate is answered by the offset of the first, so
// that it waits for the first's commit; the tail counts, too.
func TestRule13DuplicatesOfTheTail(t *testing.T) {
	s := newSlot(nil)
	now := start()
	check(t, "first", outcome(s, pub("/a", "k", "1"), now), "1")
	check(t, "retry before the commit", outcome(s, pub("/a", "k", "1"), now), "duplicate 1")
	check(t, "nothing is committed", s.Committed(), base)
	check(t, "nothing was appended", s.End(), base+1)
	check(t, "other bytes", outcome(s, pub("/a", "k", "2"), now), ErrKeyReused.Error())
	check(t, "bytes at another place", outcome(s, Publication{Channel: "/a", Key: "k", Ext: []byte("1")}, now), ErrKeyReused.Error())
	check(t, "other channel", outcome(s, pub("/b", "k", "1"), now), "2")
	s.Commit(s.End())
	check(t, "retry after the commit", outcome(s, pub("/a", "k", "1"), now.Add(5*time.Minute-time.Millisecond)), "duplicate 1")
	check(t, "after the window", outcome(s, pub("/a", "k", "2"), now.Add(5*time.Minute)), "3")
	check(t, "without a key", outcome(s, pub("/a", "", "2"), now), "4")
	check(t, "again without a key", outcome(s, pub("/a", "", "2"), now), "5")
}

func TestRefusals(t *testing.T) {
	s := newSlot(func(c *Config) { c.UncommittedBytes = 3 * 66 })
	long := `"` + strings.Repeat("x", 40) + `"`
	check(t, "too large", outcome(s, pub("/a", "k", long+long), start()), ErrTooLarge.Error())
	check(t, "fits", outcome(s, pub("/a", "k", long), start()), "1")
	check(t, "busy", outcome(s, pub("/a", "l", long), start()), ErrBusy.Error())
	check(t, "smaller", outcome(s, pub("/a", "m", "1"), start()), "2")
	s.Commit(base + 1)
	check(t, "a refused key left no trace", outcome(s, pub("/a", "l", long), start()), "3")

	last := newSlot(func(c *Config) { c.Base = shard.MaxPosition - 2 })
	if _, err := last.Append(pub("/a", "", "1"), start()); err != nil {
		t.Errorf("last offset: %v", err)
	}
	if _, err := last.Append(pub("/a", "", "1"), start()); !errors.Is(err, ErrExhausted) {
		t.Errorf("beyond the last offset: %v", err)
	}
}

// CORRECTNESS rule 11.
func TestPositions(t *testing.T) {
	s := newSlot(nil)
	for range 3 {
		outcome(s, pub("/a", "", "1"), start())
	}
	s.Commit(base + 2)
	tests := []struct {
		name  string
		since uint64
		want  string
	}{
		{"before the log", base - 1, "lost through 2"},
		{"base", base, "2 entries through 2"},
		{"committed", base + 2, "0 entries through 2"},
		{"not yet committed", base + 3, ErrAhead.Error()},
		{"beyond the log", base + 4, "lost through 2"},
	}
	for _, tt := range tests {
		page, err := s.Read(history.Query{Channel: "/a", Since: tt.since, Limit: 10})
		got := fmt.Sprintf("%d entries through %d", len(page.Entries), page.Through-base)
		if page.Lost {
			got = fmt.Sprintf("lost through %d", page.Through-base)
		}
		if err != nil {
			got = err.Error()
		}
		check(t, tt.name, got, tt.want)
	}
}

func TestPositionsOfSeveral(t *testing.T) {
	s := newSlot(nil)
	for range 3 {
		outcome(s, pub("/a", "", "1"), start())
	}
	s.Commit(base + 2)
	names := []string{"/a", "/b/**"}
	tests := []struct {
		name string
		q    history.Query
		want string
	}{
		{"before the log", history.Query{Since: base - 1, Limit: 10}, "0 entries through 2, gone [/a /b/**]"},
		{"base", history.Query{Since: base, Limit: 10}, "2 entries through 2, gone []"},
		{"not yet committed", history.Query{Since: base + 3, Limit: 10}, ErrAhead.Error()},
		{"beyond the log", history.Query{Since: base + 4, Limit: 10}, "0 entries through 2, gone [/a /b/**]"},
		{"earliest", history.Query{Earliest: true, Limit: 1}, "1 entries through 1, gone []"},
		{"only the end", history.Query{Since: base, Limit: 0}, "0 entries through 2, gone []"},
		{"only the end, for nobody", history.Query{Earliest: true, Limit: 0}, "0 entries through 2, gone []"},
		{"only the end, from before the log", history.Query{Limit: 0}, "0 entries through 2, gone [/a /b/**]"},
	}
	for _, tt := range tests {
		tt.q.Names = names
		page, err := s.Read(tt.q)
		got := fmt.Sprintf("%d entries through %d, gone %v", len(page.Entries), page.Through-base, page.Gone)
		if err != nil {
			got = err.Error()
		}
		check(t, tt.name, got, tt.want)
		check(t, tt.name+": lost", page.Lost, len(page.Gone) > 0)
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	s := newSlot(nil)
	outcome(s, pub("/a", "", "1"), start())
	outcome(s, pub("/a", "", "1"), start().Add(-time.Hour))
	passed := s.Commit(s.End())
	check(t, "time", passed[1].Time, passed[0].Time)
}

// However long the tail is, an entry knows the one before it in its channel.
func TestPrevInTheTail(t *testing.T) {
	s := newSlot(nil)
	last := map[string]uint64{}
	publish := func(n int) {
		for i := range n {
			channel := fmt.Sprint("/", i*i%7)
			check(t, "published", outcome(s, pub(channel, "", "1"), start()), fmt.Sprint(s.End()-base))
			e := s.tail[len(s.tail)-1]
			if want, ok := last[channel]; ok && e.Prev != want {
				t.Fatalf("entry %d of %s comes after %d, want %d", e.Offset, channel, e.Prev, want)
			}
			last[channel] = e.Offset
		}
	}
	publish(2 * shortTail)
	s.Commit(s.End() - 3)
	publish(shortTail / 2)
	s.Commit(s.End())
	publish(shortTail / 2)
	clear(last)
	for _, e := range s.tail[:shortTail/4] {
		last[e.Channel] = e.Offset
	}
	if err := s.Cut(s.Committed() + shortTail/4); err != nil {
		t.Fatal(err)
	}
	publish(2 * shortTail)
	if len(s.heads.offsets) == 0 {
		t.Error("no heads are kept of a long tail")
	}
	s.Commit(s.End() - 1)
	check(t, "heads of one entry", len(s.heads.offsets), 1)
}

func TestKeysAreBounded(t *testing.T) {
	s := newSlot(func(c *Config) { c.Keys = 2 })
	for i, key := range []string{"a", "b", "c"} {
		check(t, key, outcome(s, pub("/x", key, "1"), start()), fmt.Sprint(i+1))
	}
	check(t, "kept", outcome(s, pub("/x", "b", "1"), start()), "duplicate 2")
	check(t, "forgotten", outcome(s, pub("/x", "a", "1"), start()), "4")
}

// A key that was made for a publication is not looked for, and is found when it
// comes again. There is an index only while some are looked for.
func TestFreshKeys(t *testing.T) {
	s := newSlot(func(c *Config) { c.Keys = 4 })
	fresh := pub("/x", "a", "1")
	fresh.Fresh = true
	check(t, "fresh", outcome(s, fresh, start()), "1")
	check(t, "index", s.keys.index == nil, true)
	check(t, "again", outcome(s, pub("/x", "a", "1"), start()), "duplicate 1")
	check(t, "used for another", outcome(s, pub("/x", "a", "2"), start()), ErrKeyReused.Error())
	for i := range 6 {
		check(t, "index", s.keys.index == nil, false)
		fresh.Key = fmt.Sprint("b", i)
		check(t, fresh.Key, outcome(s, fresh, start()), fmt.Sprint(i+2))
	}
	check(t, "index", s.keys.index == nil, true)
	check(t, "without one", outcome(s, pub("/x", "b5", "1"), start()), "duplicate 7")
}

func BenchmarkAppendCommit(b *testing.B) {
	s := newSlot(nil)
	now := start()
	channels := make([]string, 1000)
	for i := range channels {
		channels[i] = fmt.Sprint("/bench/", i)
	}
	data := []byte(`{"price":1}`)
	var keys [1 << 12]string
	for i := range keys {
		keys[i] = fmt.Sprint("key-", i)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i%len(keys) == 0 {
			now = now.Add(time.Hour) // keys may come again
		}
		if _, err := s.Append(Publication{Channel: channels[i%1000], Key: keys[i%len(keys)], Data: data}, now); err != nil {
			b.Fatal(err)
		}
		s.Commit(s.End())
		i++
	}
}
