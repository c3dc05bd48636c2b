package slot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// pieces takes a snapshot apart.
func pieces(s *Slot, size int) [][]byte {
	_, next := s.Snapshot()
	var all [][]byte
	for piece := next(size); piece != nil; piece = next(size) {
		all = append(all, piece)
	}
	return all
}

func restore(s *Slot, pieces [][]byte) error {
	for i, piece := range pieces {
		if err := s.Restore(i, piece, i == len(pieces)-1); err != nil {
			return err
		}
	}
	return nil
}

// answers is all that a log says to readers and publishers.
func answers(s *Slot, now time.Time) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Base(), s.End(), s.Committed(), s.Held(), s.Terms(), s.lastTime(), s.History().Len(), s.History().Bytes())
	channels := []string{"/a", "/b", "/s", "/n", "/never"}
	for _, c := range channels {
		fmt.Fprintln(&b, c, s.History().Tail(c))
		for _, k := range []string{"1", "2", "3", "4"} {
			for _, later := range []time.Duration{0, 30 * time.Second, time.Minute, time.Hour} {
				if seen := s.keys.find(s.keys.id(c, k), now.Add(later).UnixMilli()); seen != nil {
					fmt.Fprintln(&b, c, k, later, seen.offset, seen.digest)
				}
			}
		}
	}
	read := func(q history.Query) {
		page, err := s.Read(q)
		fmt.Fprint(&b, q, page.Through, page.Lost, page.Gone, err)
		for _, e := range page.Entries {
			fmt.Fprint(&b, *e)
		}
		fmt.Fprintln(&b)
	}
	for _, limit := range []int{0, 1, 5} {
		for since := s.Base() - 1; since <= s.End()+1; since++ {
			for _, c := range channels {
				read(history.Query{Channel: c, Since: since, Limit: limit})
				read(history.Query{Channel: c, Since: since, Limit: limit, Reverse: true})
			}
			read(history.Query{Names: []string{"/*", "/a", "/never"}, Since: since, Limit: limit})
		}
		read(history.Query{Names: []string{"/a", "/s", "/n"}, Earliest: true, Limit: limit})
		read(history.Query{Names: []string{"/**"}, Earliest: true, Limit: limit})
	}
	return b.String()
}

// A log restored from a snapshot answers everything as the log did when the
// snapshot was taken, whatever happened to that meanwhile, and goes on alike.
func TestRestoreAnswersAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCopied(small)
		publication := rapid.Custom(func(t *rapid.T) Publication {
			return Publication{
				Channel: rapid.SampledFrom([]string{"/a", "/b", "/s", "/n"}).Draw(t, "channel"),
				Key:     rapid.SampledFrom([]string{"", "1", "2", "3", "4"}).Draw(t, "key"),
				Data:    fmt.Append(nil, rapid.IntRange(0, 1).Draw(t, "data")),
				Ext:     bytes.Repeat([]byte("x"), rapid.IntRange(0, 1).Draw(t, "ext")),
				Members: bytes.Repeat([]byte("y"), rapid.IntRange(0, 1).Draw(t, "members")),
				Session: rapid.SampledFrom([]string{"", "s"}).Draw(t, "session"), ID: "1",
			}
		})
		proceed := func(name string, logs ...*copied) {
			for range rapid.IntRange(0, 12).Draw(t, name) {
				what := rapid.IntRange(0, 9).Draw(t, "what")
				seconds := time.Duration(rapid.IntRange(0, 50).Draw(t, "seconds")) * time.Second
				p := publication.Draw(t, "publication")
				for _, c := range logs {
					switch what {
					case 0:
						c.now = c.now.Add(seconds)
						for c.Expire(c.now, 10) {
						}
						c.journal = append(c.journal, step{expire: c.now})
					case 1, 2:
						upto := c.End() - min(uint64(seconds/time.Second)/25, c.End()-c.Committed())
						c.Commit(upto)
						c.journal = append(c.journal, step{commit: upto})
					case 3:
						_ = c.Adopt(c.Term() + 1)
					default:
						c.append(t, p)
					}
				}
			}
		}
		proceed("before", c)
		offset, next := c.Snapshot()
		committed := &copied{now: c.now, journal: slices.DeleteFunc(slices.Clone(c.journal), func(s step) bool {
			return s.entry != nil && s.entry.Offset > offset
		})}
		committed.Slot = committed.twin(t, small)
		proceed("meanwhile", c)

		r := newCopied(small)
		r.now = committed.now
		proceed("of no worth", r)
		if r.Committed() > offset {
			return // a log does not go back
		}
		size := rapid.IntRange(1, 500).Draw(t, "piece")
		piece := next(size)
		for seq := 0; piece != nil; seq++ {
			following := next(size)
			if err := r.Restore(seq, piece, following == nil); err != nil {
				t.Fatal(err)
			}
			piece = following
		}
		for _, c := range []*copied{committed, r} {
			c.now = committed.now
			_ = c.Adopt(max(r.Term(), committed.terms.newest()))
		}
		compare := func(when string) {
			if got, want := answers(r.Slot, r.now), answers(committed.Slot, r.now); got != want {
				t.Fatalf("%s: restored:\n%s\nwant\n%s", when, got, want)
			}
		}
		compare("at once")
		proceed("later", r, committed)
		compare("later")
	})
}

func filled() *Slot {
	s := newSlot(small)
	now := start()
	for i := range 40 {
		outcome(s, pub([]string{"/a", "/b", "/s", "/n", fmt.Sprint("/c/", i)}[i%5], fmt.Sprint(i), "1"), now)
		now = now.Add(10 * time.Second)
		s.Expire(now, 10)
	}
	s.Commit(s.End() - 3)
	return s
}

func TestRestoreRefuses(t *testing.T) {
	whole := pieces(filled(), 60)
	if len(whole) < 5 {
		t.Fatalf("%d pieces", len(whole))
	}
	sign := func(piece []byte) []byte { return binary.BigEndian.AppendUint32(piece, checksum(piece)) }
	change := func(i int, by func(piece []byte) []byte) [][]byte {
		all := slices.Clone(whole)
		all[i] = by(slices.Clone(all[i]))
		return all
	}
	other := filled()
	outcome(other, pub("/a", "", "1"), start())
	other.Commit(other.End())
	based := newSlot(func(c *Config) { small(c); c.Base = base + 1 })
	tests := []struct {
		name   string
		into   *Slot
		pieces [][]byte
		want   error
	}{
		{"a bit", newSlot(small), change(1, func(p []byte) []byte { p[20] ^= 4; return p }), ErrSnapshot},
		{"cut short", newSlot(small), change(2, func(p []byte) []byte { return p[:len(p)-1] }), ErrSnapshot},
		{"empty", newSlot(small), [][]byte{nil}, ErrSnapshot},
		{"version", newSlot(small), change(0, func(p []byte) []byte { p[0]++; return sign(p[:len(p)-4]) }), ErrSnapshot},
		{"signed but cut short", newSlot(small), change(0, func(p []byte) []byte { return sign(p[:9]) }), ErrSnapshot},
		{"unknown kind", newSlot(small), change(4, func(p []byte) []byte { return sign(append(p[:len(p)-4], 9)) }), ErrSnapshot},
		{"a piece is missing", newSlot(small), slices.Delete(slices.Clone(whole), 1, 2), ErrSnapshot},
		{"a piece twice", newSlot(small), slices.Insert(slices.Clone(whole), 1, whole[1]), ErrSnapshot},
		{"of two snapshots", newSlot(small), append(slices.Clone(whole[:1]), pieces(other, 60)[1:]...), ErrSnapshot},
		{"the end twice", newSlot(small), change(len(whole)-1, func(p []byte) []byte { return sign(append(p[:len(p)-4], recordEnd)) }), ErrSnapshot},
		{"all but the end", newSlot(small), whole[:len(whole)-1], ErrSnapshot},
		{"the head alone", newSlot(small), whole[:1], ErrSnapshot},
		{"of another log", based, whole, ErrSnapshot},
		{"behind the commit mark", other, whole, ErrCommitted},
		{"none of it", newSlot(small), nil, nil},
		{"all of it", newSlot(small), whole, nil},
	}
	for _, tt := range tests {
		before := answers(tt.into, start())
		err := restore(tt.into, tt.pieces)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if err != nil && answers(tt.into, start()) != before {
			t.Errorf("%s: a refused snapshot changed the log", tt.name)
		}
		if err := tt.into.Restore(1, whole[1], false); err != nil && !errors.Is(err, ErrSnapshot) || err == nil {
			t.Errorf("%s: going on after that: %v", tt.name, err)
		}
	}
}

// What a small configuration cannot take of a snapshot is dropped, not refused.
func TestRestoreIntoLess(t *testing.T) {
	s := newSlot(func(c *Config) {
		small(c)
		c.Keys = 1
		c.Retention.Tombstones = 1
		c.Retention.Class = func(channel string) history.Class {
			if channel == "/b" {
				return history.Class{}
			}
			return history.Class{Messages: 1}
		}
	})
	if err := restore(s, pieces(filled(), 100)); err != nil {
		t.Fatal(err)
	}
	check(t, "messages", s.History().Info("/a").Messages, 1)
	check(t, "without history", s.History().Info("/b").Messages, 0)
	keys, _ := s.keys.committed()
	check(t, "keys", keys, 1)
}

// FuzzRestore: whatever the bytes are, there is an error or a log that works.
func FuzzRestore(f *testing.F) {
	for _, piece := range pieces(filled(), 1<<20) {
		f.Add(piece[:len(piece)-4])
	}
	for _, piece := range pieces(newSlot(nil), 1) {
		f.Add(piece[:len(piece)-4])
	}
	f.Fuzz(func(t *testing.T, piece []byte) {
		s := newSlot(small)
		piece = binary.BigEndian.AppendUint32(piece, checksum(piece))
		if err := s.Restore(0, piece, true); err != nil {
			if s.End() != base || !errors.Is(err, ErrSnapshot) && !errors.Is(err, history.ErrInconsistent) && !errors.Is(err, history.ErrEncoding) {
				t.Fatalf("%v; the log ends at %d", err, s.End())
			}
			return
		}
		if _, err := s.Append(pub("/a", "1", "1"), start()); err == nil {
			s.Commit(s.End())
		}
		s.Expire(start().Add(time.Hour), 100)
		again := newSlot(small)
		if err := restore(again, pieces(s, 100)); err != nil {
			t.Fatalf("a restored log cannot be restored: %v", err)
		}
		_, _ = again.Read(history.Query{Names: []string{"/**"}, Earliest: true, Limit: 10})
	})
}
