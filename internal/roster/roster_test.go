package roster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/comet-push/comet/internal/roster"
)

func member(n int) roster.Member {
	return roster.Member{Session: fmt.Sprintf("s%02d", n), User: fmt.Sprint("u", n%3), Since: time.Unix(int64(n), 0)}
}

// draw is some state.
func draw(t *rapid.T, limit int, before bool) roster.State {
	var members []roster.Member
	for n := range 12 {
		if rapid.Bool().Draw(t, "is there") {
			members = append(members, member(n))
		}
	}
	return roster.Of(members).Bound(limit, before)
}

// TestChanges leads from state to state: whoever applies the changes has what
// there is.
func TestChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 12).Draw(t, "limit")
		told, known := roster.State{}, roster.State{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			next := draw(t, limit, told.Listed)
			if next.Count > uint64(limit) && next.Listed {
				t.Fatalf("%d are listed, at most %d should be", next.Count, limit)
			}
			c, differs := told.Until(next)
			if same := cmp.Equal(told, next); same == differs {
				t.Fatalf("from %v to %v: differs is %v", told, next, differs)
			}
			if differs {
				known = known.After(c)
			}
			if rapid.IntRange(0, 5).Draw(t, "whole") == 0 {
				known = roster.State{}.After(next.Whole())
			}
			if told = next; !cmp.Equal(known, next) {
				t.Fatalf("known is %v, want %v", known, next)
			}
		}
	})
}

func TestLists(t *testing.T) {
	for _, tt := range []struct {
		n      uint64
		limit  int
		before bool
		want   bool
	}{
		{0, 0, true, false},
		{0, 0, false, false},
		{1, 1, true, true},
		{1, 1, false, true},
		{1000, 1000, true, true},
		{1001, 1000, true, false},
		{1000, 1000, false, false},
		{901, 1000, false, false},
		{900, 1000, false, true},
		{0, 1000, false, true},
	} {
		if got := roster.Lists(tt.n, tt.limit, tt.before); got != tt.want {
			t.Errorf("Lists(%d, %d, %v) = %v", tt.n, tt.limit, tt.before, got)
		}
	}
}

// TestSinceStays has a member told again by somebody who knows less of it.
func TestSinceStays(t *testing.T) {
	late := member(1)
	late.Since = late.Since.Add(time.Hour)
	known := roster.Of([]roster.Member{member(1)})
	if got := known.After(roster.Of([]roster.Member{late, member(2)}).Whole()); !cmp.Equal(got, roster.Of([]roster.Member{member(1), member(2)})) {
		t.Errorf("got %v", got)
	}
}

func TestJoin(t *testing.T) {
	a, b := roster.Of([]roster.Member{member(1)}), roster.Of([]roster.Member{member(2), member(3)})
	if got := roster.Join([]roster.State{a, b}); !cmp.Equal(got, roster.Of([]roster.Member{member(1), member(2), member(3)})) {
		t.Errorf("got %v", got)
	}
	if got := roster.Join([]roster.State{a, roster.Counted(5)}); !cmp.Equal(got, roster.Counted(6)) {
		t.Errorf("got %v", got)
	}
}
