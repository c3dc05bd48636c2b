package holder

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// config is roomy.
func config() Config {
	return Config{Sessions: 5000, Channels: 10, Resume: 10, Tombstones: 5000, Watches: 1, Queue: 10, Grace: time.Minute}
}

// begin returns a holder of everything and the feeds of edges.
func begin(t *testing.T, cfg Config, edges ...string) (h *Holder, feeds []*Feed) {
	t.Helper()
	h = New(cfg)
	h.SetHeld(all(1, true))
	h.SetEdges(edges, time.Time{})
	for _, e := range edges {
		feeds = append(feeds, attach(t, h, e))
	}
	return h, feeds
}

func attach(t *testing.T, h *Holder, edge string) *Feed {
	t.Helper()
	f, err := h.Attach(edge, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func syncAll(f *Feed) {
	for n := range shard.PresenceShard(shard.PresenceShards) {
		f.Sync(n, time.Time{})
	}
}

// there is a session's state in a generation.
func there(count uint64, channels ...string) State {
	return State{Channels: channels, Generation: home.Generation{Epoch: 1, Count: count}}
}

// fill makes n sessions on one channel and returns their feed.
func fill(t *testing.T, h *Holder, f *Feed, n int) {
	t.Helper()
	for _, i := range rand.Perm(n) {
		if err := f.Present(id(i), there(1, "/a"), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	syncAll(f)
	if h.Sessions() != n {
		t.Fatalf("%d sessions, want %d", h.Sessions(), n)
	}
}

func gone(f *Feed, id string) { f.Gone(id, home.First(1), "disconnect", time.Time{}) }

func id(i int) string { return fmt.Sprintf("s%06d", i) }

// TestMembersAreSortedAndBounded lists the first thousand of many.
func TestMembersAreSortedAndBounded(t *testing.T) {
	r, feeds := begin(t, config(), "e@1")
	fill(t, r, feeds[0], 5000)
	got := r.Members("/a", 1000)
	if len(got) != 1000 || r.Count("/a") != 5000 {
		t.Fatalf("%d members of %d, want 1000 of 5000", len(got), r.Count("/a"))
	}
	for i, m := range got {
		if m.Session != id(i) {
			t.Fatalf("member %d is %s", i, m.Session)
		}
	}
}

// TestWatchListsWhileMembersChange lists more than a page, with sessions on
// both sides of the page's end coming and going.
func TestWatchListsWhileMembersChange(t *testing.T) {
	const n = 3 * page
	r, feeds := begin(t, config(), "e@1")
	f := feeds[0]
	fill(t, r, f, n)
	w, err := r.Watch("/a", func() {})
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.Next()
	if err != nil || len(first) != page {
		t.Fatalf("first page has %d members, %v", len(first), err)
	}
	gone(f, id(0))   // listed: is told
	gone(f, id(n-1)) // not listed: is not
	if err := f.Present("s000000a", there(1, "/a"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, e := range first {
		told[e.Member.Session] = true
	}
	for {
		events, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		for _, e := range events {
			if told[e.Member.Session] == e.Joined {
				t.Errorf("told again: %+v", e)
			}
			if told[e.Member.Session] = e.Joined; !e.Joined {
				delete(told, e.Member.Session)
			}
			if int(e.Count) != len(told) {
				t.Errorf("count %d, told of %d", e.Count, len(told))
			}
		}
	}
	if len(told) != n-1 || told[id(0)] || told[id(n-1)] || !told["s000000a"] {
		t.Errorf("watch knows %d members, want %d", len(told), n-1)
	}
}

// TestWatchFallsBehind ends a watch whose queue is full, and frees what it held.
func TestWatchFallsBehind(t *testing.T) {
	cfg := config()
	cfg.Queue = 3
	r, feeds := begin(t, cfg, "e@1")
	f := feeds[0]
	fill(t, r, f, 4)
	notified := 0
	w, err := r.Watch("/a", func() { notified++ })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		gone(f, id(i))
	}
	if notified != 4 {
		t.Errorf("notified %d times, want 4", notified)
	}
	if events, err := w.Next(); !errors.Is(err, ErrSlow) {
		t.Errorf("next returned %v, %v, want ErrSlow", events, err)
	}
	w.Close()
	w.Close()
	if r.Watches() != 0 || len(r.channels) != 0 {
		t.Errorf("%d watches and %d channels are left", r.Watches(), len(r.channels))
	}
}

func TestLimits(t *testing.T) {
	r, feeds := begin(t, Config{Sessions: 2, Channels: 2, Resume: 10, Tombstones: 1}, "e@1")
	f := feeds[0]
	now := time.Unix(1, 0)
	if err := f.Present("a", there(1, "/1", "/2", "/1"), now); err != nil {
		t.Errorf("two channels: %v", err)
	}
	if err := f.Subscribed("a", []string{"/2", "/3"}, now); !errors.Is(err, ErrLimit) {
		t.Errorf("a third channel: %v, want ErrLimit", err)
	}
	if err := f.Present("b", there(1), now); err != nil {
		t.Errorf("a second session: %v", err)
	}
	if err := f.Present("c", there(1), now); !errors.Is(err, ErrLimit) {
		t.Errorf("a third session: %v, want ErrLimit", err)
	}
	if err := f.Present("a", there(1), now); err != nil {
		t.Errorf("a known session: %v", err)
	}
	big := there(1)
	big.Resume = make([]byte, 11)
	if err := f.Present("a", big, now); !errors.Is(err, ErrLimit) {
		t.Errorf("too much to resume: %v, want ErrLimit", err)
	}
	gone(f, "a")
	gone(f, "b")
	if _, err := r.Attach("e@2", func() {}); !errors.Is(err, ErrAbsent) {
		t.Errorf("an edge that is not announced: %v, want ErrAbsent", err)
	}
	if len(r.tombs) != 1 || len(r.buried) != 1 {
		t.Errorf("%d ends are remembered, want 1", len(r.tombs))
	}
	if r.Sessions() != 0 || len(r.channels) != 0 || len(r.users) != 0 {
		t.Errorf("%d sessions, %d channels, %d users are left", r.Sessions(), len(r.channels), len(r.users))
	}
}

// TestClaim follows a session from one home to the next, and the next.
func TestClaim(t *testing.T) {
	h, feeds := begin(t, config(), "e@1", "e@2", "e@3")
	one, two, three := feeds[0], feeds[1], feeds[2]
	now := time.Unix(1, 0)
	st := there(1, "/a")
	st.Resume = []byte("r")
	if err := one.Present("s", st, now); err != nil {
		t.Fatal(err)
	}
	one.Vector([]uint64{7})
	syncAll(one)
	syncAll(two)
	if _, err := h.Locate("s"); !errors.Is(err, ErrNotReady) {
		t.Errorf("located before all edges were heard: %v", err)
	}
	syncAll(three)
	claim := func(edge string, count uint64) Claimed {
		t.Helper()
		got, err := h.Claim("s", edge, home.Generation{Epoch: 1, Count: count}, now)
		if err != nil {
			t.Fatal(err)
		}
		if got.Previous != "e@1" || got.State.Generation.Count != 1 || string(got.State.Resume) != "r" || len(got.Vector) != 1 || got.Vector[0] != 7 {
			t.Errorf("claimed %+v", got)
		}
		return got
	}
	claim("e@2", 1)
	if refused, _ := one.Answers(); len(refused) != 1 || refused[0].Home != "e@2" || refused[0].Generation.Count != 2 {
		t.Errorf("the old home is told %+v", refused)
	}
	one.Vector([]uint64{9}) // it may have passed what the session's client has
	var stale *StaleError
	if _, err := h.Claim("s", "e@3", home.First(1), now); !errors.As(err, &stale) || stale.Home != "e@2" {
		t.Errorf("a claim of an old generation: %v", err)
	}
	got := claim("e@3", 2) // e@2 does not seem to have got it
	if err := three.Present("s", State{Generation: got.Generation, Channels: []string{"/a"}}, now); err != nil {
		t.Fatal(err)
	}
	if err := two.Present("s", there(2, "/a"), now); err != nil {
		t.Fatal(err)
	}
	if refused, _ := two.Answers(); len(refused) != 2 || refused[1].Home != "e@3" {
		t.Errorf("the edge that was overtaken is told %+v", refused)
	}
	if at, err := h.Locate("s"); err != nil || at.Home != "e@3" || at.Lost || at.Generation.Count != 3 {
		t.Errorf("located %+v, %v", at, err)
	}
	three.Gone("s", got.Generation, "disconnect", now)
	if _, err := h.Locate("s"); !errors.Is(err, ErrOver) {
		t.Errorf("who is over is located: %v", err)
	}
	if _, err := h.Locate("t"); !errors.Is(err, ErrUnknown) {
		t.Errorf("nobody is located: %v", err)
	}
}

// TestClaimThatIsNotInstalled makes the session lost, and ends it in the end.
func TestClaimThatIsNotInstalled(t *testing.T) {
	h, feeds := begin(t, config(), "e@1", "e@2")
	now := time.Unix(1, 0)
	for _, f := range feeds {
		syncAll(f)
	}
	if err := feeds[0].Present("s", there(1, "/a"), now); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Claim("s", "e@2", home.First(1), now); err != nil {
		t.Fatal(err)
	}
	syncAll(feeds[1]) // it does not name what it has not got yet
	for _, tt := range []struct {
		after time.Duration
		lost  bool
		count int
	}{{29 * time.Second, false, 1}, {30 * time.Second, true, 1}, {89 * time.Second, true, 1}, {91 * time.Second, false, 0}} {
		h.Tick(now.Add(tt.after))
		at, err := h.Locate("s")
		if at.Lost != tt.lost || h.Count("/a") != tt.count || (err == nil) != (tt.count > 0) {
			t.Errorf("after %v: %+v, %v, %d members", tt.after, at, err, h.Count("/a"))
		}
	}
}

// TestSaidBeforeItWasHeld asks again for what came too early.
func TestSaidBeforeItWasHeld(t *testing.T) {
	h := New(config())
	h.SetEdges([]string{"e@1"}, time.Time{})
	woken := 0
	f, err := h.Attach("e@1", func() { woken++ })
	if err != nil {
		t.Fatal(err)
	}
	s := shard.OfSession("s")
	f.Begin(s)
	if err := f.Present("s", there(1), time.Time{}); err != nil {
		t.Fatal(err)
	}
	h.SetHeld(all(1, true))
	for n := range shard.PresenceShard(shard.PresenceShards) {
		if n != s {
			f.Begin(n)
		}
		f.Sync(n, time.Time{})
	}
	if _, wanted := f.Answers(); len(wanted) != 1 || wanted[0] != s || woken != 1 {
		t.Errorf("shards %v are wanted, woken %d times", wanted, woken)
	}
	if missing, _ := h.Missing(); len(missing) != 1 {
		t.Errorf("edges %v are missing", missing)
	}
	f.Begin(s)
	if err := f.Present("s", there(1), time.Time{}); err != nil {
		t.Fatal(err)
	}
	f.Sync(s, time.Time{})
	if missing, ok := h.Missing(); len(missing) != 0 || !ok || h.Sessions() != 1 {
		t.Errorf("edges %v are missing, %d sessions", missing, h.Sessions())
	}
	h.SetHeld(nil)
	if h.Sessions() != 0 || len(h.channels) != 0 {
		t.Errorf("%d sessions and %d channels are left", h.Sessions(), len(h.channels))
	}
}

// TestLeave has an edge die whose session is on a channel that waits little, and
// on one that does not.
func TestLeave(t *testing.T) {
	cfg := config()
	cfg.Watches = 2
	cfg.Leave = func(channel string) time.Duration {
		return map[string]time.Duration{"/a": 5 * time.Second, "/late": time.Hour}[channel]
	}
	h, feeds := begin(t, cfg, "e@1", "f@1")
	now := time.Unix(1000, 0)
	present := func(f *Feed, count uint64, channels ...string) {
		t.Helper()
		if err := f.Present("s", there(count, channels...), now); err != nil {
			t.Fatal(err)
		}
	}
	present(feeds[0], 1, "/a", "/b", "/late")
	syncAll(feeds[0])
	syncAll(feeds[1])
	told := ""
	w, err := h.Watch("/a", func() {})
	if err != nil {
		t.Fatal(err)
	}
	want := func(after time.Duration, news, rosters string) {
		t.Helper()
		now = now.Add(after)
		h.Tick(now)
		events, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		told = ""
		for _, e := range events {
			sign := map[bool]string{true: "+", false: "-"}[e.Joined]
			told += fmt.Sprint(sign, e.Member.Generation.Count, "#", e.Count)
		}
		if got := fmt.Sprint(h.Count("/a"), h.Count("/b"), h.Count("/late")); told != news || got != rosters {
			t.Errorf("told %q, rosters have %s, want %q, %s", told, got, news, rosters)
		}
	}
	want(0, "+1#1", "1 1 1")
	h.SetEdges([]string{"f@1"}, now)
	want(0, "", "1 1 1")
	want(5*time.Second-1, "", "1 1 1")
	want(1, "-1#0", "0 1 1")
	for _, first := range []bool{false, true} { // nor does it show it as a new first holder
		h.SetHeld(all(1, first))
	}
	if got := h.Count("/a"); got != 0 {
		t.Errorf("a new first holder counts %d", got)
	}
	w.Close()
	if w, err = h.Watch("/a", func() {}); err != nil {
		t.Fatal(err)
	}
	want(time.Second, "", "0 1 1")
	claimed, err := h.Claim("s", "f@1", home.First(1), now)
	if err != nil || len(claimed.State.Channels) != 3 {
		t.Fatalf("claimed %+v, %v", claimed, err)
	}
	want(time.Second, "", "0 1 1")
	present(feeds[1], 2, "/a", "/b", "/late")
	want(0, "+2#1", "1 1 1")
	h.SetEdges(nil, now)
	want(5*time.Second, "-2#0", "0 1 1")
	want(time.Minute, "", "0 0 0") // of whom it has told already
	if len(h.away) != 0 || len(h.channels) != 1 {
		t.Errorf("%d are away, %d channels are known", len(h.away), len(h.channels))
	}
}

// BenchmarkEveryone looks at a channel with as many members as are ever listed.
func BenchmarkEveryone(b *testing.B) {
	h := New(config())
	h.SetHeld(all(1, true))
	h.SetEdges([]string{"e@1"}, time.Time{})
	f, err := h.Attach("e@1", func() {})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		if err := f.Present(id(i), there(1, "/a", "/b"), time.Time{}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		n := 0
		for range h.Everyone("/a") {
			n++
		}
		if n != 1000 {
			b.Fatal(n)
		}
	}
}
