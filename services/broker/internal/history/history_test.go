package history

import (
	"fmt"
	"maps"
	"testing"
	"time"
)

// CORRECTNESS rule 5(a): entries of a channel expire, the channel is forgotten,
// and a reader who saw only the first comes back.
func TestRule5aPrevOfAForgottenChannel(t *testing.T) {
	f := newFeed(Config{PositionTTL: 10 * time.Second})
	f.add("/s/c") // 1, seen
	f.add("/s/c") // 2, never seen
	f.pass(2 * time.Second)
	check(t, "read with a tombstone", f.read("/s/c", 1), "lost")
	check(t, "prev from the tombstone", f.Tail("/s/c").Prev, base+2)

	f.pass(time.Minute)
	check(t, "tombstones", len(f.gone.byLast), 0)
	check(t, "read when forgotten", f.read("/s/c", 1), "lost")
	e := f.add("/s/c") // 3
	check(t, "prev is the floor, not 0", e.Prev, base+2)
	check(t, "read after that", f.read("/s/c", 1), "lost")
	check(t, "read of one who saw all", f.read("/s/c", 2), "3")
}

// CORRECTNESS rule 5(b): short retention elsewhere in the slot makes nobody
// lose anything.
func TestRule5bShortRetentionRaisesNoFloor(t *testing.T) {
	f := newFeed(Config{})
	f.add("/a/quiet") // 1
	for range 20 {
		f.add("/s/busy")
		f.add("/n/none")
		f.pass(2 * time.Second)
	}
	check(t, "quiet channel", f.read("/a/quiet", 1), "")
	check(t, "quiet channel from before", f.read("/a/quiet", 0), "1")
	check(t, "never used channel", f.read("/a/never", 0), "")
	check(t, "pattern beside it", f.Complete("/a/**", base), true)
	check(t, "pattern over it", f.Complete("/s/**", base), false)
	check(t, "pattern over no history", f.Complete("/n/**", base), true)
	check(t, "channel without history", f.read("/n/none", 0), "")
	check(t, "prev without history", f.Tail("/n/none").Prev, 0)
}

func TestBounds(t *testing.T) {
	tests := []struct {
		name string
		cfg  Config
		run  func(f *feed)
		want string
	}{
		{"count", Config{}, func(f *feed) { addAll(f, "/c/x", 6) }, "3 4 5 6"},
		{"bytes", Config{}, func(f *feed) { addAll(f, "/b/x", 6) }, "5 6"},
		{"age", Config{}, func(f *feed) {
			addAll(f, "/s/x", 2)
			f.pass(600 * time.Millisecond)
			addAll(f, "/s/x", 2)
			f.pass(600 * time.Millisecond)
		}, "3 4"},
		{"age to the millisecond", Config{}, func(f *feed) {
			addAll(f, "/s/x", 1)
			f.pass(time.Second - time.Millisecond)
		}, "1"},
		{"bytes of the slot, oldest of all channels", Config{Bytes: 4 * 68}, func(f *feed) {
			addAll(f, "/a/x", 3)
			addAll(f, "/a/y", 3)
		}, "3 4 5 6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFeed(tt.cfg)
			tt.run(f)
			check(t, "retained", offsets(f.retained(base)), tt.want)
		})
	}
}

func addAll(f *feed, channel string, n int) {
	for range n {
		f.add(channel)
	}
}

func TestRead(t *testing.T) {
	f := newFeed(Config{})
	addAll(f, "/c/x", 3) // 1 2 3
	f.add("/a/y")        // 4
	addAll(f, "/c/x", 3) // 5 6 7; 1 2 are dropped
	f.add("/a/y")        // 8
	tests := []struct {
		name    string
		q       Query
		want    string
		through uint64
		lost    bool
	}{
		{"all of it", Query{Channel: "/c/x", Since: 2, Limit: 9}, "3 5 6 7", 8, false},
		{"limited", Query{Channel: "/c/x", Since: 2, Limit: 2}, "3 5", 5, false},
		{"limit reached exactly", Query{Channel: "/c/x", Since: 2, Limit: 4}, "3 5 6 7", 8, false},
		{"dropped", Query{Channel: "/c/x", Since: 1, Limit: 1}, "", 8, true},
		{"earliest", Query{Channel: "/c/x", Earliest: true, Limit: 1}, "3", 3, false},
		{"reverse", Query{Channel: "/c/x", Since: 2, Limit: 9, Reverse: true}, "7 6 5 3", 8, false},
		{"reverse, enough of the newest", Query{Channel: "/c/x", Since: 0, Limit: 4, Reverse: true}, "7 6 5 3", 8, false},
		{"reverse, not enough", Query{Channel: "/c/x", Since: 1, Limit: 5, Reverse: true}, "", 8, true},
		{"reverse earliest", Query{Channel: "/c/x", Earliest: true, Limit: 2, Reverse: true}, "7 6", 8, false},
		{"nothing new", Query{Channel: "/c/x", Since: 8, Limit: 9}, "", 8, false},
		{"between entries", Query{Channel: "/a/y", Since: 6, Limit: 9}, "8", 8, false},
		{"never used", Query{Channel: "/a/z", Since: 0, Limit: 9}, "", 8, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.q.Since += base
			page := f.Read(tt.q)
			check(t, "entries", offsets(page.Entries), tt.want)
			check(t, "through", page.Through-base, tt.through)
			check(t, "lost", page.Lost, tt.lost)
		})
	}
}

func TestTombstonesAreBounded(t *testing.T) {
	f := newFeed(Config{Tombstones: 2})
	for _, name := range []string{"/s/1", "/s/2", "/s/3"} {
		f.add(name)
		f.pass(2 * time.Second)
	}
	check(t, "floor is the oldest's last", f.Tail("/a/never").Prev, base+1)
	check(t, "the others are remembered", f.Tail("/s/2").Prev, base+2)
	f.add("/s/2") // alive again: its tombstone goes, the floor stays
	check(t, "tombstones", len(f.gone.byLast), 1)
	check(t, "floor", f.Tail("/a/never").Prev, base+1)
}

func TestOneOldEntryPinsNothing(t *testing.T) {
	f := newFeed(Config{})
	f.add("/a/old")
	for range 100_000 {
		f.add("/c/busy")
	}
	check(t, "retained", f.Len(), 5)
	if n := len(f.order.items); n > 200 {
		t.Errorf("%d items for 5 entries", n)
	}
	if ch := f.channels["/c/busy"]; cap(ch.offsets) > 64 {
		t.Errorf("room for %d entries of a channel that keeps 4", cap(ch.offsets))
	}
	if n := len(f.chunks.all) - len(f.chunks.free); n > 2 {
		t.Errorf("%d chunks for 5 entries", n)
	}
	f.pass(2 * time.Hour)
	check(t, "heap", len(f.ages), 0)
}

// Channels without history leave no chunk behind for each of their entries.
func TestWithoutHistory(t *testing.T) {
	f := newFeed(Config{})
	const runs = 1000
	var entries []*Entry
	for i := range runs + 1 {
		entries = append(entries, (&Entry{Channel: "/n/x", Offset: base + uint64(i) + 1, Data: []byte("1")}).Seal())
	}
	allocs := testing.AllocsPerRun(runs, func() {
		f.Add(entries[0])
		entries = entries[1:]
	})
	if allocs >= 1 {
		t.Errorf("%v allocations per entry", allocs)
	}
	check(t, "retained", f.Len(), 0)
	check(t, "chunks", len(f.chunks.all)-len(f.chunks.free), 1)
}

func TestList(t *testing.T) {
	f := newFeed(Config{})
	for _, name := range []string{"/b/2", "/a/1", "/a/3", "/a/2", "/a/2", "/service/x", "/a/deep/er"} {
		f.add(name)
	}
	also := maps.Keys(map[string]bool{"/a/0": true, "/a/2": true, "/z": true})
	tests := []struct {
		pattern, after string
		limit          int
		want           string
	}{
		{"/a/*", "", 9, "[{/a/0 0 0} {/a/1 1002 1} {/a/2 1005 2} {/a/3 1003 1}]"},
		{"/a/*", "/a/0", 2, "[{/a/1 1002 1} {/a/2 1005 2}]"},
		{"/**", "/a/3", 9, "[{/a/deep/er 1007 1} {/b/2 1001 1} {/z 0 0}]"},
		{"/service/*", "", 9, "[{/service/x 1006 1}]"},
		{"/a/1", "", 9, "[{/a/1 1002 1}]"},
		{"/a/*", "", 0, "[]"},
	}
	for _, tt := range tests {
		check(t, tt.pattern+" after "+tt.after, fmt.Sprint(f.List(tt.pattern, tt.after, tt.limit, also)), tt.want)
	}
}

func TestExpireIsBounded(t *testing.T) {
	f := newFeed(Config{})
	addAll(f, "/s/x", 100)
	f.now = f.now.Add(time.Minute)
	check(t, "more", f.Expire(f.now, 10), true)
	check(t, "retained", f.Len(), 90)
}

// The drop clock: what was lost before it is not reported again.
func TestLostSinceAClock(t *testing.T) {
	f := newFeed(Config{Tombstones: 1})
	f.add("/s/a") // 1
	f.pass(2 * time.Second)
	seen := f.Drops()
	check(t, "lost", f.Lost("/s/a", base, 0), true)
	check(t, "lost before the clock", f.Lost("/s/a", base, seen), false)
	f.add("/s/b") // 2
	f.pass(2 * time.Second)
	// /s/a is forgotten now, but was dropped before the clock.
	var gaps []string
	forgotten := f.Gaps(base, seen, func(c string) { gaps = append(gaps, c) })
	check(t, "gaps", fmt.Sprint(gaps, forgotten), "[/s/b] false")
	gaps = nil
	forgotten = f.Gaps(base, 0, func(c string) { gaps = append(gaps, c) })
	check(t, "all gaps", fmt.Sprint(gaps, forgotten), "[/s/b] true")
}
