package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/go-cmp/cmp"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// write writes and wants an answer.
func (s *suite) write(l membership.Leadership, slot shard.Slot, r shard.Row, want error, absent ...string) {
	s.Helper()
	err := l.Write(s.Context(), membership.Change{Slot: slot, Row: r, Absent: absent})
	if !errors.Is(err, want) {
		s.Errorf("write of slot %d at version %d: %v, want %v", slot, r.Version, err, want)
	}
}

// wrote says that a slot's row is of a term.
func wrote(slot shard.Slot, term uint64) func(membership.View) bool {
	return func(v membership.View) bool { return v.Table.Row(slot).Term == term }
}

func (s *suite) swap() {
	h := s.store.Open(s.T)
	w := s.watch(s.store.Open(s.T))
	l := s.lead(h, "a@1", soon)
	const last = shard.Slots - 1
	s.write(l, 0, row(1, "a@1", 0), nil)
	s.write(l, last, row(1, "b@1", 0), nil)
	s.write(l, 0, row(2, "b@1", 0), membership.ErrConflict) // exists
	v := w.await(soon, "both rows", func(v membership.View) bool { return wrote(0, 1)(v) && wrote(last, 1)(v) })
	first := v.Table.Row(0)
	if first.Version == 0 {
		s.Error("a written row has version 0")
	}
	if diff := cmp.Diff(row(1, "a@1", first.Version), first); diff != "" {
		s.Errorf("row as read (-want +got):\n%s", diff)
	}

	s.write(l, 0, row(2, "b@1", first.Version), nil)
	s.write(l, 0, row(3, "c@1", first.Version), membership.ErrConflict) // no longer the version
	s.write(l, 1, row(1, "a@1", first.Version), membership.ErrConflict) // does not exist
	v = w.await(soon, "the second row", wrote(0, 2))
	if got := v.Table.Row(0); got.Primary != "b@1" || got.Version <= first.Version {
		s.Errorf("second row is %+v, want primary b@1 and a version above %d", got, first.Version)
	}
	if err := l.Write(s.Context(), membership.Change{Slot: shard.Slots}); err == nil {
		s.Error("a slot that does not exist was written")
	}
}

func (s *suite) absent() {
	h := s.store.Open(s.T)
	w := s.watch(h)
	l := s.lead(h, "a@1", soon)
	b := node("b", "1")
	rb := s.register(s.store.Open(s.T), b)
	w.await(soon, "b", has(b))

	s.write(l, 1, row(1, "a@1", 0), membership.ErrConflict, "b@1")
	s.write(l, 1, row(1, "a@1", 0), membership.ErrConflict, "x@1", "b@1")
	s.write(l, 1, row(1, "a@1", 0), nil, "b@2", "x@1")

	s.register(s.store.Open(s.T), node("b", "2"))
	w.await(soon, "b's successor", has(node("b", "2")))
	s.write(l, 2, row(1, "a@1", 0), membership.ErrConflict, "b@2")
	s.write(l, 2, row(1, "a@1", 0), nil, "b@1")
	if err := s.awaitEnd(rb, soon); !errors.Is(err, membership.ErrReplaced) {
		s.Errorf("b's Register returned %v, want ErrReplaced", err)
	}
}

func (s *suite) present() {
	h := s.store.Open(s.T)
	w := s.watch(h)
	l := s.lead(h, "a@1", soon)
	s.register(s.store.Open(s.T), node("b", "1"))
	s.register(s.store.Open(s.T), node("c", "1"))
	w.await(soon, "b and c", has(node("b", "1"), node("c", "1")))
	for i, c := range []struct {
		present, absent []string
		want            error
	}{
		{[]string{"b@1"}, nil, nil},
		{[]string{"b@1", "c@1"}, []string{"a@1"}, nil},
		{[]string{"b@2"}, nil, membership.ErrConflict},
		{[]string{"b@1", "x@1"}, nil, membership.ErrConflict},
		{[]string{"b@1"}, []string{"c@1"}, membership.ErrConflict},
	} {
		slot := shard.Slot(2 * i)
		change := membership.Change{Slot: slot, Row: row(1, "b@1", 0), Absent: c.absent, Present: c.present}
		if err := l.Write(s.Context(), change); !errors.Is(err, c.want) {
			s.Errorf("write with %v present and %v absent: %v, want %v", c.present, c.absent, err, c.want)
		}
		change.Slot++
		if _, err := h.Swap(s.Context(), change); !errors.Is(err, c.want) {
			s.Errorf("swap with %v present and %v absent: %v, want %v", c.present, c.absent, err, c.want)
		}
	}
}

// swapAlone has a primary change its row while the leader does, too.
func (s *suite) swapAlone() {
	h, other := s.store.Open(s.T), s.store.Open(s.T)
	w := s.watch(h)
	l := s.lead(other, "a@1", soon)
	s.write(l, 3, row(1, "b@1", 0), nil)
	first := w.await(soon, "the first row", wrote(3, 1)).Table.Row(3)

	grown := row(1, "b@1", first.Version)
	grown.InSync = append(grown.InSync, "spare@2")
	version, err := h.Swap(s.Context(), membership.Change{Slot: 3, Row: grown})
	if err != nil || version <= first.Version {
		s.Errorf("swap: version %d, %v, want one above %d", version, err, first.Version)
	}
	v := w.await(soon, "the second row", func(v membership.View) bool { return v.Table.Row(3).Version > first.Version })
	grown.Version = version
	if diff := cmp.Diff(grown, v.Table.Row(3)); diff != "" {
		s.Errorf("row as read (-want +got):\n%s", diff)
	}
	s.write(l, 3, row(2, "c@1", first.Version), membership.ErrConflict)
	s.write(l, 3, row(2, "c@1", version), nil)
	if _, err := h.Swap(s.Context(), membership.Change{Slot: 3, Row: row(1, "b@1", version)}); !errors.Is(err, membership.ErrConflict) {
		s.Errorf("swap of a replaced row: %v, want ErrConflict", err)
	}
	if _, err := h.Swap(s.Context(), membership.Change{Slot: shard.Slots}); err == nil {
		s.Error("a slot that does not exist was written")
	}
}

func (s *suite) race() {
	const racers, rounds = 4, 10
	var handles []Handle
	for range racers {
		handles = append(handles, s.store.Open(s.T))
	}
	var version int64
	for term := range uint64(rounds) {
		var won atomic.Int64
		parallel(racers, func(i int) {
			c := membership.Change{Slot: 5, Row: row(term+1, fmt.Sprintf("b%d@1", i), version)}
			switch v, err := handles[i].Swap(s.Context(), c); {
			case err == nil && !won.CompareAndSwap(0, v):
				s.Errorf("two of one version were applied in term %d", term+1)
			case err != nil && !errors.Is(err, membership.ErrConflict):
				s.Errorf("swap: %v", err)
			}
		})
		if won.Load() <= version {
			s.Fatalf("version %d after %d", won.Load(), version)
		}
		version = won.Load()
	}
}

// many has one member change all rows at a time, also as leader, and in vain:
// each change applies, or not, for itself.
func (s *suite) many() {
	h := s.store.Open(s.T)
	w := s.watch(h)
	l := s.lead(h, "a@1", soon)
	parallel(shard.Slots, func(i int) { s.write(l, shard.Slot(i), row(1, "b@1", 0), nil) })
	v := w.await(soon, "all rows", func(v membership.View) bool { return len(v.Table.Owned("b@1")) == shard.Slots })
	var applied [shard.Slots]atomic.Int64
	parallel(3*shard.Slots, func(i int) {
		n := shard.Slot(i / 3)
		c := membership.Change{Slot: n, Row: row(2, fmt.Sprintf("%d@1", i%3), v.Table.Row(n).Version)}
		var err error
		switch i % 3 {
		case 0:
			_, err = h.Swap(s.Context(), c)
		case 1:
			err = l.Write(s.Context(), c)
		case 2:
			if c.Present = []string{"nobody@1"}; n%2 == 0 {
				c.Present, c.Row.Version = nil, c.Row.Version-1
			}
			if _, err = h.Swap(s.Context(), c); err == nil {
				s.Errorf("slot %d: a change applied whose conditions do not hold", n)
			}
		}
		switch {
		case err == nil:
			applied[n].Add(1)
		case !errors.Is(err, membership.ErrConflict):
			s.Errorf("slot %d: %v", n, err)
		}
	})
	for n := range applied {
		if got := applied[n].Load(); got != 1 {
			s.Errorf("slot %d: %d changes of one version were applied", n, got)
		}
	}
	w.await(soon, "all new rows", func(v membership.View) bool {
		return len(v.Table.Owned("0@1"))+len(v.Table.Owned("1@1")) == shard.Slots
	})
	gone, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := h.Swap(gone, membership.Change{Slot: 0, Row: row(3, "c@1", v.Table.Row(0).Version)}); err == nil {
		s.Error("a change was made for nobody")
	}
}

func (s *suite) read() {
	h, other := s.store.Open(s.T), s.store.Open(s.T)
	if got, err := h.Row(s.Context(), 9); err != nil || got.Version != 0 || got.Primary != "" {
		s.Errorf("a row that was never written: %+v, %v", got, err)
	}
	var version int64
	for term := range uint64(20) {
		var err error
		if version, err = h.Swap(s.Context(), membership.Change{Slot: 9, Row: row(term+1, "b@1", version)}); err != nil {
			s.Fatal(err)
		}
		got, err := other.Row(s.Context(), 9)
		if diff := cmp.Diff(row(term+1, "b@1", version), got); err != nil || diff != "" {
			s.Fatalf("%v; row as read at once (-want +got):\n%s", err, diff)
		}
	}
	if _, err := h.Row(s.Context(), shard.Slots); err == nil {
		s.Error("a slot that does not exist was read")
	}
	h.Disconnect(true)
	if got, err := h.Row(s.Context(), 9); err == nil {
		s.Errorf("row %+v was read while cut off", got)
	}
	_, err := h.Swap(s.Context(), membership.Change{Slot: 9, Row: row(99, "b@1", version)})
	if err == nil || errors.Is(err, membership.ErrConflict) {
		s.Errorf("swap while cut off: %v, want an error that leaves open whether it was applied", err)
	}
}

func (s *suite) clusterID() {
	const asking = 4
	ids := make([]string, asking)
	parallel(asking, func(i int) {
		var err error
		if ids[i], err = s.store.Open(s.T).ClusterID(s.Context()); err != nil {
			s.Errorf("cluster id: %v", err)
		}
	})
	for _, id := range ids {
		if len(id) != 32 || id != ids[0] {
			s.Errorf("ids %q, want one of 32 hex digits", ids)
		}
	}
	cut := s.store.Open(s.T)
	cut.Disconnect(true)
	if id, err := cut.ClusterID(s.Context()); err == nil {
		s.Errorf("id %s was read while cut off", id)
	}
}

func (s *suite) elect() {
	const candidates = 5
	var leading, led atomic.Int32
	var handles []Handle
	for range candidates {
		handles = append(handles, s.store.Open(s.T))
	}
	parallel(candidates, func(i int) {
		h := handles[i]
		l, err := h.Campaign(s.Context(), fmt.Sprintf("c%d@1", i))
		if err != nil {
			s.Errorf("candidate %d: %v", i, err)
			return
		}
		if n := leading.Add(1); n != 1 {
			s.Errorf("%d candidates lead", n)
		}
		s.write(l, shard.Slot(i), row(1, "a@1", 0), nil)
		if led.Add(1) == 1 { // who waits in vain
			s.giveUp(h)
		}
		leading.Add(-1)
		l.Resign(s.Context())
		select {
		case <-l.Lost():
		case <-s.limit(soon):
			s.Errorf("candidate %d resigned and was not told that it is over", i)
		}
		s.write(l, 100, row(1, "a@1", 0), membership.ErrNotLeader)
	})
	if led.Load() != candidates {
		s.Errorf("%d of %d candidates led", led.Load(), candidates)
	}
}

// giveUp campaigns while another leads, and stops waiting.
func (s *suite) giveUp(h Handle) {
	ctx, cancel := context.WithTimeout(s.Context(), soon/4)
	defer cancel()
	if _, err := h.Campaign(ctx, "late@1"); !errors.Is(err, context.DeadlineExceeded) {
		s.Errorf("campaign that was given up returned %v, want context.DeadlineExceeded", err)
	}
}

func (s *suite) depose() {
	h := s.store.Open(s.T)
	l := s.lead(h, "a@1", soon)
	s.write(l, 1, row(1, "a@1", 0), nil)
	h.Disconnect(true)
	err := l.Write(s.Context(), membership.Change{Slot: 2, Row: row(1, "a@1", 0)})
	if err == nil || errors.Is(err, membership.ErrConflict) || errors.Is(err, membership.ErrNotLeader) {
		s.Errorf("write while cut off: %v, want an error that leaves open whether it was applied", err)
	}

	next := s.lead(s.store.Open(s.T), "b@1", s.dead)
	s.write(next, 3, row(1, "b@1", 0), nil)
	select {
	case <-l.Lost():
	case <-s.limit(s.Lease + soon):
		s.Error("the deposed leader was not told")
	}
	h.Disconnect(false)
	s.watch(h).await(noticed, "connected again", connected)
	s.write(l, 4, row(1, "a@1", 0), membership.ErrNotLeader)
	s.write(next, 4, row(1, "b@1", 0), nil)
	next.Resign(s.Context())
	s.write(s.lead(h, "a@1", noticed), 5, row(1, "a@1", 0), nil)
}

func (s *suite) inherit() {
	h := s.store.Open(s.T)
	l := s.lead(h, "a@1", soon)
	s.write(l, 1, row(1, "a@1", 0), nil)
	other := s.store.Open(s.T)
	h.Kill()
	next := s.lead(other, "b@1", s.dead)
	v := s.watch(other).await(soon, "the row of the first leader", wrote(1, 1))
	s.write(next, 1, row(2, "b@1", v.Table.Row(1).Version), nil)
}
