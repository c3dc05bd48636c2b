package roster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// fill makes n sessions on one channel and returns their feed.
func fill(t *testing.T, r *Roster, n int) *Feed {
	t.Helper()
	f := r.Attach("e@1")
	for _, i := range rand.Perm(n) {
		if err := f.Present(id(i), State{Channels: []string{"/a"}}, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	f.Synced()
	return f
}

func id(i int) string { return fmt.Sprintf("s%06d", i) }

// TestMembersAreSortedAndBounded lists the first thousand of many.
func TestMembersAreSortedAndBounded(t *testing.T) {
	r := New(Limits{Sessions: 5000, Channels: 1})
	fill(t, r, 5000)
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
	r := New(Limits{Sessions: 2 * n, Channels: 1, Watches: 1, Queue: 10})
	f := fill(t, r, n)
	w, err := r.Watch("/a", func() {})
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.Next()
	if err != nil || len(first) != page {
		t.Fatalf("first page has %d members, %v", len(first), err)
	}
	f.Gone(id(0))     // listed: is told
	f.Gone(id(n - 1)) // not listed: is not
	if err := f.Present("s000000a", State{Channels: []string{"/a"}}, time.Time{}); err != nil {
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
	r := New(Limits{Sessions: 10, Channels: 1, Watches: 1, Queue: 3})
	f := fill(t, r, 4)
	notified := 0
	w, err := r.Watch("/a", func() { notified++ })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		f.Gone(id(i))
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
	r := New(Limits{Sessions: 2, Channels: 2, Watches: 1, Queue: 1})
	f := r.Attach("e@1")
	now := time.Unix(1, 0)
	if err := f.Present("a", State{Channels: []string{"/1", "/2", "/1"}}, now); err != nil {
		t.Errorf("two channels: %v", err)
	}
	if err := f.Subscribed("a", []string{"/2", "/3"}, now); !errors.Is(err, ErrLimit) {
		t.Errorf("a third channel: %v, want ErrLimit", err)
	}
	if err := f.Present("b", State{}, now); err != nil {
		t.Errorf("a second session: %v", err)
	}
	if err := f.Present("c", State{}, now); !errors.Is(err, ErrLimit) {
		t.Errorf("a third session: %v, want ErrLimit", err)
	}
	if err := f.Present("a", State{}, now); err != nil {
		t.Errorf("a known session: %v", err)
	}
	f.Gone("a")
	f.Gone("b")
	if r.Sessions() != 0 || len(r.channels) != 0 || len(r.users) != 0 {
		t.Errorf("%d sessions, %d channels, %d users are left", r.Sessions(), len(r.channels), len(r.users))
	}
}
