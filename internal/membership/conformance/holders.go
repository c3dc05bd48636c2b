package conformance

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// hold writes holders and wants an answer.
func (s *suite) hold(l membership.Leadership, c membership.HoldersChange, want error) {
	s.Helper()
	if err := l.WriteHolders(s.Context(), c); !errors.Is(err, want) {
		s.Errorf("write of presence shard %d at version %d, %v absent, %v present: %v, want %v",
			c.Shard, c.Holders.Version, c.Absent, c.Present, err, want)
	}
}

// holders are a change of a presence shard's.
func holders(n shard.PresenceShard, epoch uint64, first, second string, version int64) membership.HoldersChange {
	return membership.HoldersChange{
		Shard: n, Holders: shard.Holders{Epoch: epoch, First: first, Second: second, Version: version},
	}
}

// held says that the holders of a shard are of an epoch.
func held(n shard.PresenceShard, epoch uint64) func(membership.View) bool {
	return func(v membership.View) bool { return v.Presence.Holders(n).Epoch == epoch }
}

func (s *suite) swapHolders() {
	h := s.store.Open(s.T)
	w := s.watch(s.store.Open(s.T))
	l := s.lead(h, "a@1", soon)
	const last = shard.PresenceShards - 1
	s.hold(l, holders(0, 1, "p@1", "q@1", 0), nil)
	s.hold(l, holders(last, 1, "q@1", "", 0), nil)
	s.hold(l, holders(0, 2, "q@1", "p@1", 0), membership.ErrConflict) // exists
	v := w.await(soon, "both rows", func(v membership.View) bool { return held(0, 1)(v) && held(last, 1)(v) })
	first := v.Presence.Holders(0)
	if want := holders(0, 1, "p@1", "q@1", first.Version).Holders; first != want || first.Version == 0 {
		s.Errorf("row as read is %+v, want %+v and a version", first, want)
	}
	s.hold(l, holders(0, 2, "q@1", "r@1", first.Version), nil)
	s.hold(l, holders(0, 3, "r@1", "p@1", first.Version), membership.ErrConflict) // no longer the version
	s.hold(l, holders(1, 1, "p@1", "q@1", first.Version), membership.ErrConflict) // does not exist
	v = w.await(soon, "the second row", held(0, 2))
	if got := v.Presence.Holders(0); got.First != "q@1" || got.Second != "r@1" || got.Version <= first.Version {
		s.Errorf("second row is %+v, want first q@1, second r@1 and a version above %d", got, first.Version)
	}

	// The slot of the same number is another row.
	s.write(l, 0, row(7, "b@1", 0), nil)
	if v = w.await(soon, "the slot's row", wrote(0, 7)); !held(0, 2)(v) || v.Table.Row(last).Version != 0 {
		s.Errorf("slots and presence shards are mixed up: %+v, %+v", v.Presence.Holders(0), v.Table.Row(last))
	}
	if err := l.WriteHolders(s.Context(), holders(shard.PresenceShards, 1, "p@1", "", 0)); err == nil {
		s.Error("a presence shard that does not exist was written")
	}
	l.Resign(s.Context())
	s.hold(l, holders(2, 1, "p@1", "", 0), membership.ErrNotLeader)
}

func (s *suite) holdersOfMembers() {
	h := s.store.Open(s.T)
	w := s.watch(h)
	l := s.lead(h, "a@1", soon)
	p, q := node("p", "1"), node("q", "1")
	s.register(s.store.Open(s.T), p)
	rq := s.register(s.store.Open(s.T), q)
	w.await(soon, "both nodes", has(p, q))
	for i, c := range []struct {
		absent, present []string
		want            error
	}{
		{nil, []string{"p@1", "q@1"}, nil},
		{[]string{"x@1"}, []string{"p@1"}, nil},
		{[]string{"p@1"}, nil, membership.ErrConflict},
		{[]string{"x@1", "p@1"}, []string{"q@1"}, membership.ErrConflict},
		{nil, []string{"p@1", "p@2"}, membership.ErrConflict},
	} {
		change := holders(shard.PresenceShard(i), 1, "p@1", "q@1", 0)
		change.Absent, change.Present = c.absent, c.present
		s.hold(l, change, c.want)
	}
	rq.stop()
	w.await(soon, "q withdrawn", lacks(q))
	change := holders(9, 1, "p@1", "", 0)
	change.Absent, change.Present = []string{"q@1"}, []string{"p@1"}
	s.hold(l, change, nil)
}

// manyHolders has all rows of slots and shards change at a time, those of shards
// by two who cannot both be right.
func (s *suite) manyHolders() {
	h := s.store.Open(s.T)
	w := s.watch(s.store.Open(s.T))
	l := s.lead(h, "a@1", soon)
	var applied [shard.PresenceShards]atomic.Int64
	parallel(3*shard.PresenceShards, func(i int) {
		if i%3 == 2 {
			s.write(l, shard.Slot(i/3), row(1, "b@1", 0), nil)
			return
		}
		n := shard.PresenceShard(i / 3)
		switch err := l.WriteHolders(s.Context(), holders(n, 1, []string{"p@1", "q@1"}[i%3], "", 0)); {
		case err == nil:
			applied[n].Add(1)
		case !errors.Is(err, membership.ErrConflict):
			s.Errorf("presence shard %d: %v", n, err)
		}
	})
	for n := range applied {
		if got := applied[n].Load(); got != 1 {
			s.Errorf("presence shard %d: %d changes of one version were applied", n, got)
		}
	}
	w.await(soon, "all rows", func(v membership.View) bool {
		return v.Presence.Complete() && len(v.Presence.Held("p@1"))+len(v.Presence.Held("q@1")) == shard.PresenceShards &&
			len(v.Table.Owned("b@1")) == shard.Slots
	})
	gone, cancel := context.WithCancel(s.Context())
	cancel()
	if err := l.WriteHolders(gone, holders(0, 2, "r@1", "", w.last.Presence.Holders(0).Version)); err == nil {
		s.Error("a change was made for nobody")
	}
}

// holdersInOutage wants an outage to leave holders as they are, and who leads
// after it to find them.
func (s *suite) holdersInOutage() {
	h := s.store.Open(s.T)
	w := s.watch(h)
	l := s.lead(h, "a@1", soon)
	s.hold(l, holders(7, 3, "p@1", "q@1", 0), nil)
	was := w.await(soon, "the row", held(7, 3)).Presence.Holders(7)

	s.store.Disconnect(s.T, true)
	if v := w.await(noticed, "disconnected", disconnected); v.Presence.Holders(7) != was {
		s.Errorf("the outage changed holders to %+v", v.Presence.Holders(7))
	}
	err := l.WriteHolders(s.Context(), holders(7, 4, "q@1", "", was.Version))
	if err == nil || errors.Is(err, membership.ErrConflict) || errors.Is(err, membership.ErrNotLeader) {
		s.Errorf("write in an outage: %v, want an error that leaves open whether it was applied", err)
	}
	w.always(2*s.Lease, "the row of before", func(v membership.View) bool { return !v.Connected && v.Presence.Holders(7) == was })
	s.store.Disconnect(s.T, false)
	w.await(soon, "connected", connected)
	select {
	case <-l.Lost():
		l = s.lead(s.store.Open(s.T), "b@1", s.dead)
	default:
	}
	w.always(s.dead, "the row of before, or what was written in the outage", func(v membership.View) bool {
		return v.Presence.Holders(7).Version >= was.Version
	})
	s.hold(l, holders(7, 5, "r@1", "p@1", w.last.Presence.Holders(7).Version), nil)
	w.await(soon, "the next row", held(7, 5))
}
