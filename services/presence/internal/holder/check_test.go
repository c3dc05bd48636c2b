package holder

import (
	"slices"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// TestCheck has an edge sum up a shard of which other things are known: it is
// wanted, and right once it was sent again.
func TestCheck(t *testing.T) {
	s := shard.OfSession("s")
	other := "x"
	for i := 0; shard.OfSession(other) != s; i++ {
		other = id(i)
	}
	sum := func(list map[string][]string) (sum shard.Sum) {
		for id, channels := range list {
			sum.Add(id, 1, 1, slices.Values(channels))
		}
		return sum
	}
	tests := []struct {
		name string
		has  map[string][]string // the edge, of the shard
		same bool
	}{
		{"same", map[string][]string{"s": {"/a", "/b"}}, true},
		{"a session that is not known", map[string][]string{"s": {"/a", "/b"}, other: nil}, false},
		{"none", nil, false},
		{"a session less, one more", map[string][]string{other: {"/a", "/b"}}, false},
		{"a channel more", map[string][]string{"s": {"/a", "/b", "/c"}}, false},
		{"a channel less", map[string][]string{"s": {"/a"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, feeds := begin(t, config(), "e@1")
			f, now := feeds[0], time.Time{}
			if err := f.Present("s", there(1, "/b", "/a"), now); err != nil {
				t.Fatal(err)
			}
			if !f.Check(s, shard.Sum{}) {
				t.Error("a shard is checked that is not synced")
			}
			syncAll(f)
			if got := f.Check(s, sum(tt.has)); got != tt.same {
				t.Fatalf("got %v", got)
			}
			_, wanted := f.Answers()
			if tt.same {
				if len(wanted) > 0 {
					t.Errorf("shards %v are wanted", wanted)
				}
				return
			}
			if !slices.Equal(wanted, []shard.PresenceShard{s}) {
				t.Fatalf("shards %v are wanted", wanted)
			}
			f.Begin(s)
			for id, channels := range tt.has {
				if err := f.Present(id, there(1, channels...), now); err != nil {
					t.Fatal(err)
				}
			}
			f.Sync(s, now)
			if !f.Check(s, sum(tt.has)) || h.Sessions() != len(tt.has) {
				t.Errorf("still wrong, with %d sessions", h.Sessions())
			}
		})
	}
}

// TestCheckWhileSessionsMove: nobody knows for sure who has them.
func TestCheckWhileSessionsMove(t *testing.T) {
	h, feeds := begin(t, config(), "e@1", "e@2")
	if err := feeds[0].Present("s", there(1), time.Time{}); err != nil {
		t.Fatal(err)
	}
	syncAll(feeds[0])
	syncAll(feeds[1])
	if _, err := h.Claim("s", "e@2", there(1).Generation, time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, f := range feeds {
		if !f.Check(shard.OfSession("s"), shard.Sum{Sessions: 7}) {
			t.Error("a shard is wanted of which a session moves")
		}
	}
}
