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
