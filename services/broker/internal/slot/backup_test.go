package slot

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// copied is a log that is appended to, replicated to, cut and committed, and
// the journal of what is left of that.
type copied struct {
	*Slot
	now     time.Time
	journal []step
}

// step is an entry, a commit mark or a sweep that happened to a log.
type step struct {
	entry  *history.Entry
	commit uint64
	expire time.Time
}

func newCopied(change func(*Config)) *copied { return &copied{Slot: newSlot(change), now: start()} }

// small makes every bound be met soon.
func small(c *Config) {
	c.Keys = 3
	c.LogBytes = 300
	c.KeyWindow = time.Minute
	c.Retention.Tombstones = 2
	c.Retention.PositionTTL = 3 * time.Minute
	c.Retention.Class = func(channel string) history.Class {
		switch channel {
		case "/n":
			return history.Class{}
		case "/s":
			return history.Class{Messages: 100, Age: time.Minute}
		}
		return history.Class{Messages: 2}
	}
}

// twin is the log that has only what is left.
func (c *copied) twin(t *rapid.T, change func(*Config)) *Slot {
	s := newSlot(change)
	for _, step := range c.journal {
		switch {
		case step.entry != nil:
			if err := s.Replicate(step.entry); err != nil {
				t.Fatalf("entry that was in the log: %v", err)
			}
		case !step.expire.IsZero():
			for s.Expire(step.expire, 10) {
			}
		default:
			s.Commit(step.commit)
		}
	}
	return s
}

func (c *copied) check(t *rapid.T) {
	twin := c.twin(t, small)
	if c.End() != twin.End() || c.Committed() != twin.Committed() || c.waiting != twin.waiting || c.lastTime() != twin.lastTime() {
		t.Fatalf("log: %d, %d, %d, %d, want %d, %d, %d, %d", c.End(), c.Committed(), c.waiting, c.lastTime(),
			twin.End(), twin.Committed(), twin.waiting, twin.lastTime())
	}
	if !slices.Equal(c.tail, twin.tail) {
		t.Fatalf("tail %v, want %v", c.tail, twin.tail)
	}
	if c.Start() != twin.Start() || !same(c.After(c.Start(), 1<<20), twin.After(c.Start(), 1<<20)) {
		t.Fatalf("replicated from %d, want %d", c.Start(), twin.Start())
	}
	if !slices.Equal(c.Terms(), twin.Terms()) {
		t.Fatalf("terms %v, want %v", c.Terms(), twin.Terms())
	}
	if !slices.Equal(slices.Concat(c.keys.blocks...), slices.Concat(twin.keys.blocks...)) ||
		c.keys.first != twin.keys.first || c.keys.settled != twin.keys.settled {
		t.Fatalf("keys: %+v, want %+v", c.keys, twin.keys)
	}
	for _, k := range slices.Concat(c.keys.blocks...) {
		if got, want := c.keys.find(k.id, k.time), twin.keys.find(k.id, k.time); (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Fatalf("key %+v: found %+v, want %+v", k, got, want)
		}
	}
	if got, want := retained(c.Slot), retained(twin); !same(got, want) {
		t.Fatalf("history has %d entries, want %d", len(got), len(want))
	}
}

func retained(s *Slot) []*history.Entry {
	var entries []*history.Entry
	for e := range s.History().After(0) {
		entries = append(entries, e.Entry())
	}
	return entries
}

func same(a, b []*history.Entry) bool {
	return slices.EqualFunc(a, b, func(a, b *history.Entry) bool { return reflect.DeepEqual(a, b) })
}

func (c *copied) replicate(t *rapid.T, e *history.Entry) error {
	end, last, newest := c.End(), c.lastTime(), c.terms.newest()
	err := c.Replicate(e)
	var want error
	switch {
	case e.Offset != end+1:
		want = ErrNotNext
	case e.Term < newest:
		want = ErrOldTerm
	case e.Time < last:
		want = ErrOldTime
	}
	if !errors.Is(err, want) {
		t.Fatalf("replicating %+v after %d of term %d, %d ms: %v, want %v", e, end, newest, last, err, want)
	}
	if err == nil {
		c.journal = append(c.journal, step{entry: e})
	}
	return err
}

func (c *copied) append(t *rapid.T, p Publication) {
	end := c.End()
	r, err := c.Append(p, c.now)
	switch {
	case errors.Is(err, ErrOldTerm) && c.Term() >= c.terms.newest(), err != nil && !errors.Is(err, ErrKeyReused) && !errors.Is(err, ErrOldTerm):
		t.Fatalf("append: %v", err)
	case err == nil && !r.Duplicate:
		c.journal = append(c.journal, step{entry: c.tail[len(c.tail)-1]})
	case c.End() != end:
		t.Fatalf("a refused or repeated publication moved the end from %d to %d", end, c.End())
	}
}

func (c *copied) cut(t *rapid.T, after uint64) {
	err := c.Cut(after)
	if after < c.Committed() {
		if !errors.Is(err, ErrCommitted) {
			t.Fatalf("cutting after %d below the mark %d: %v", after, c.Committed(), err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	c.journal = slices.DeleteFunc(c.journal, func(s step) bool { return s.entry != nil && s.entry.Offset > after })
}

// A log that was cut is the log that never had what was cut: keys, the heads of
// channels, terms and the clock (CORRECTNESS rules 1 and 13).
func TestCutLeavesNoTrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCopied(small)
		publication := rapid.Custom(func(t *rapid.T) Publication {
			return Publication{
				Channel: rapid.SampledFrom([]string{"/a", "/b", "/s", "/n"}).Draw(t, "channel"),
				Key:     rapid.SampledFrom([]string{"", "1", "2", "3", "4"}).Draw(t, "key"),
				Data:    fmt.Append(nil, rapid.IntRange(0, 1).Draw(t, "data")),
			}
		})
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) { c.append(t, publication.Draw(t, "publication")) },
			"replicate": func(t *rapid.T) {
				p := publication.Draw(t, "publication")
				odd := rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2, 3}).Draw(t, "odd")
				e := &history.Entry{
					Channel: p.Channel, Key: p.Key, Data: p.Data, Offset: c.End() + 1, Prev: c.History().Tail(p.Channel).Prev,
					Term: max(c.terms.newest(), 1) + rapid.Uint64Range(0, 1).Draw(t, "term"), Time: max(c.lastTime(), c.now.UnixMilli()),
				}
				switch odd {
				case 1:
					e.Offset += rapid.SampledFrom([]uint64{1, ^uint64(0)}).Draw(t, "hole")
				case 2:
					e.Term--
				case 3:
					e.Time -= 1000
				}
				_ = c.replicate(t, e)
			},
			"adopt": func(t *rapid.T) {
				known := max(c.Term(), c.terms.newest())
				term := rapid.Uint64Range(known-1, known+2).Draw(t, "term")
				if err := c.Adopt(term); errors.Is(err, ErrOldTerm) != (term < known) {
					t.Fatalf("adopting %d after %d: %v", term, known, err)
				}
			},
			"commit": func(t *rapid.T) {
				upto := rapid.Uint64Range(base, c.End()).Draw(t, "upto")
				c.Commit(upto)
				c.journal = append(c.journal, step{commit: upto})
			},
			"cut": func(t *rapid.T) {
				c.cut(t, rapid.Uint64Range(max(c.Committed(), 1)-1, c.End()+1).Draw(t, "after"))
			},
			"pass": func(t *rapid.T) {
				c.now = c.now.Add(time.Duration(rapid.IntRange(-20, 60).Draw(t, "seconds")) * time.Second)
			},
			"expire": func(*rapid.T) {
				for c.Expire(c.now, 10) {
				}
				c.journal = append(c.journal, step{expire: c.now})
			},
			"": c.check,
		})
	})
}

// CORRECTNESS rule 13: the key of an entry of the tail counts before that is
// committed and not after it was cut; the one it displaced counts again.
func TestRule13CutUndoesKeys(t *testing.T) {
	s := newSlot(func(c *Config) { c.Keys = 2 })
	now := start()
	for i, key := range []string{"k", "l"} {
		check(t, key, outcome(s, pub("/a", key, "1"), now), fmt.Sprint(i+1))
	}
	s.Commit(base + 1)
	check(t, "displaces k", outcome(s, pub("/a", "m", "1"), now), "3")
	check(t, "k is new", outcome(s, pub("/a", "k", "2"), now), "4")
	check(t, "and known", outcome(s, pub("/a", "k", "2"), now), "duplicate 4")
	if err := s.Cut(base + 2); err != nil {
		t.Fatal(err)
	}
	check(t, "k is the first again", outcome(s, pub("/a", "k", "1"), now), "duplicate 1")
	check(t, "which had other bytes", outcome(s, pub("/a", "k", "2"), now), ErrKeyReused.Error())
	check(t, "m is unknown", outcome(s, pub("/a", "m", "2"), now), "3")
}

// Replicating in the log's own words: a refusal names the offset that is needed.
func TestReplicateRefuses(t *testing.T) {
	s := newSlot(nil)
	outcome(s, pub("/a", "", "1"), start())
	at := start().UnixMilli()
	tests := []struct {
		name string
		e    history.Entry
		want string
	}{
		{"hole", history.Entry{Offset: base + 3, Term: 8, Time: at}, "entry 5003 of term 8: not the next entry: the log needs 5002 next"},
		{"held", history.Entry{Offset: base + 1, Term: 8, Time: at}, "entry 5001 of term 8: not the next entry: the log needs 5002 next"},
		{"term", history.Entry{Offset: base + 2, Term: 6, Time: at}, "entry 5002 of term 6: term before the log's last: the log needs 5002 of term 7 or a later one"},
		{"prev", history.Entry{Offset: base + 2, Prev: base + 2, Term: 7, Time: at}, "entry 5002 after 5002 of its channel: one that comes before the entry is needed"},
		{"time", history.Entry{Offset: base + 2, Term: 7, Time: at - 1}, "entry 5002 of 1699999999999 ms: time before the log's last: the log needs 5002 of 1700000000000 ms or later"},
	}
	for _, tt := range tests {
		err := s.Replicate(&tt.e)
		check(t, tt.name, fmt.Sprint(err), tt.want)
	}
	check(t, "end", s.End(), base+1)
}

func TestTerms(t *testing.T) {
	s := newSlot(nil)
	for term := uint64(7); term < 12; term++ {
		if err := s.Adopt(term); err != nil {
			t.Fatal(err)
		}
		if term != 9 { // a term without entries leaves no trace
			outcome(s, pub("/a", "", "1"), start())
			outcome(s, pub("/a", "", "1"), start())
		}
	}
	check(t, "all", fmt.Sprint(s.Terms()), "[{7 5002} {8 5004} {10 5006} {11 5008}]")
	for _, tt := range []struct {
		after uint64
		want  string
	}{
		{5008, "[{7 5002} {8 5004} {10 5006} {11 5008}]"},
		{5007, "[{7 5002} {8 5004} {10 5006} {11 5007}]"},
		{5006, "[{7 5002} {8 5004} {10 5006}]"},
		{5001, "[{7 5001}]"},
		{5000, "[]"},
	} {
		if err := s.Cut(tt.after); err != nil {
			t.Fatal(err)
		}
		check(t, fmt.Sprint("cut after ", tt.after), fmt.Sprint(s.Terms()), tt.want)
	}
}

// What copies catch up from ends at the end of the log, tail included, and goes
// back as far as its bound or its pin have it, whatever is retained.
func TestAfter(t *testing.T) {
	one := (&history.Entry{Channel: "/n/x", Data: []byte("1")}).Cost()
	const kept = 62 // what one of them takes of memory
	s := newSlot(func(c *Config) { c.LogBytes = 3 * kept })
	offsets := func(offset uint64, bytes int) string {
		var text []byte
		for i, e := range s.After(offset, bytes) {
			if e.Offset != offset+uint64(i)+1 {
				t.Errorf("entry %d after %d is %d", i, offset, e.Offset)
			}
			text = fmt.Append(text, e.Offset-base, " ")
		}
		return string(text)
	}
	add := func(n int) {
		for range n {
			outcome(s, pub("/n/x", "", "1"), start()) // not retained
		}
	}
	check(t, "nothing yet", offsets(base, one), "")
	add(5)
	check(t, "start", s.Start(), base)
	s.Commit(base + 4)
	check(t, "start", s.Start(), base+1)
	check(t, "all", offsets(base+1, 100*one), "2 3 4 5 ")
	check(t, "across the mark", offsets(base+2, 2*one), "3 4 ")
	check(t, "not a part of one", offsets(base+2, 3*one-1), "3 4 ")
	check(t, "at least one", offsets(base+1, 1), "2 ")
	check(t, "of the tail", offsets(base+4, one), "5 ")
	check(t, "at the end", offsets(base+5, one), "")

	s.Pin(base + 3)
	add(8)
	s.Commit(s.End())
	check(t, "pinned", s.Start(), base+3)
	add(8)
	s.Commit(s.End())
	check(t, "pinned too long", s.Start(), s.End()-12)
	s.Pin(math.MaxUint64)
	check(t, "no pin", s.Start(), s.End()-3)
	check(t, "the last", offsets(s.Start(), 100*one), "19 20 21 ")
}

// Very many terms: those that end before Start go.
func TestTermsAreBounded(t *testing.T) {
	s := newSlot(func(c *Config) { c.LogBytes = 1 })
	for term := uint64(8); term < 8+2*maxTerms; term++ {
		if err := s.Adopt(term); err != nil {
			t.Fatal(err)
		}
		outcome(s, pub("/a", "", "1"), start())
	}
	check(t, "of the tail", len(s.Terms()), 2*maxTerms)
	s.Commit(s.End())
	check(t, "committed", len(s.Terms()), maxTerms)
	check(t, "the last", s.Terms()[maxTerms-1], TermEnd{7 + 2*maxTerms, s.End()})
}
