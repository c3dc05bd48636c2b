package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

func (s *suite) forward() {
	leader, cut := s.store.Open(s.T), s.store.Open(s.T)
	l := s.lead(leader, "a@1", soon)
	own := s.watch(leader)
	own.await(soon, "connected", connected)

	const rounds = 40
	checked := make(chan struct{})
	watchers := []*watch{s.watch(cut), s.watch(s.store.Open(s.T))}
	go func() {
		defer close(checked)
		parallel(len(watchers), func(i int) { watchers[i].neverBack(1, rounds) })
	}()
	s.Cleanup(func() { <-checked }) // if we fail
	for term := range uint64(rounds) {
		v := own.await(soon, "the last row", wrote(1, term))
		s.write(l, 1, row(term+1, "a@1", v.Table.Row(1).Version), nil)
		switch term {
		case 10:
			cut.Disconnect(true)
		case 20:
			cut.Disconnect(false)
		}
	}
	<-checked
}

// neverBack takes views until a slot is at a term, and fails if its row was
// once older than before.
func (w *watch) neverBack(slot shard.Slot, term uint64) {
	var seen shard.Row
	for limit := w.s.limit(30 * time.Second); seen.Term < term; {
		select {
		case v, open := <-w.views:
			if !open {
				return // the case failed elsewhere
			}
			r := v.Table.Row(slot)
			if r.Version < seen.Version || r.Term < seen.Term {
				w.s.Errorf("row went from %+v back to %+v", seen, r)
			}
			seen = r
		case <-limit:
			w.s.Errorf("row %+v is the last that was seen, want term %d", seen, term)
			return
		}
	}
}

func (s *suite) outage() {
	ha, hb := s.store.Open(s.T), s.store.Open(s.T)
	wa, wb := s.watch(ha), s.watch(hb)
	a, b := node("a", "1"), node("b", "1")
	s.register(ha, a)
	s.register(hb, b)
	l := s.lead(ha, "a@1", soon)
	s.write(l, 7, row(1, "a@1", 0), nil)
	whole := func(v membership.View) bool { return has(a, b)(v) && wrote(7, 1)(v) }
	wa.await(soon, "nodes and row", whole)
	wb.await(soon, "nodes and row", whole)

	s.store.Disconnect(s.T, true)
	for _, w := range []*watch{wa, wb} {
		if v := w.await(noticed, "disconnected", disconnected); !whole(v) {
			s.Errorf("the outage changed the view: %v", v.Nodes)
		}
	}
	err := l.Write(s.Context(), membership.Change{Slot: 8, Row: row(1, "a@1", 0)})
	if err == nil || errors.Is(err, membership.ErrConflict) || errors.Is(err, membership.ErrNotLeader) {
		s.Errorf("write in an outage: %v, want an error that leaves open whether it was applied", err)
	}
	wa.always(3*s.Lease, "the view of before", func(v membership.View) bool { return !v.Connected && whole(v) })

	back := time.Now()
	s.store.Disconnect(s.T, false)
	for _, w := range []*watch{wa, wb} {
		w.await(soon, "connected, and all announced again", func(v membership.View) bool { return v.Connected && whole(v) })
	}
	s.Logf("connected and announced again after %v", time.Since(back).Round(time.Millisecond))
	wa.always(s.dead, "nobody vanishes after it", whole)
	select {
	case <-l.Lost():
		l = s.lead(hb, "b@1", s.dead)
	default:
	}
	s.write(l, 9, row(1, "b@1", 0), nil)
}

func (s *suite) startInOutage() {
	s.store.Disconnect(s.T, true)
	h := s.store.Open(s.T)
	w := s.watch(h)
	a := node("a", "1")
	s.register(h, a)
	elected := make(chan membership.Leadership, 1)
	ctx, cancel := context.WithTimeout(s.Context(), 3*s.Lease+s.Patience)
	defer cancel()
	go func() {
		defer close(elected)
		if l, err := h.Campaign(ctx, "a@1"); err == nil {
			elected <- l
		}
	}()
	select {
	case v := <-w.views:
		s.Errorf("view before the store ever answered: %+v", v)
	case <-time.After(s.Lease):
	}
	s.store.Disconnect(s.T, false)
	w.await(soon+soon/2, "a announced", func(v membership.View) bool { return v.Connected && has(a)(v) })
	l, ok := <-elected
	if !ok {
		s.Fatal("nobody was elected after the outage")
	}
	s.write(l, 1, row(1, "a@1", 0), nil)
	l.Resign(s.Context())
}

// cutWhileStarting cuts off watchers in every moment of their start.
func (s *suite) cutWhileStarting() {
	parallel(20, func(i int) {
		h := s.store.Open(s.T)
		w := s.watch(h)
		<-time.After(time.Duration(i) * 2 * time.Millisecond)
		h.Disconnect(true)
		last := true // nothing seen yet is as good as disconnected
		for limit := time.After(noticed + s.Patience/4); ; {
			select {
			case v := <-w.views:
				last = !v.Connected
				continue
			case <-limit:
			}
			break
		}
		if !last {
			s.Errorf("watcher %d does not notice that it was cut off", i)
		}
	})
}

func (s *suite) leaveInOutage() {
	w := s.watch(s.store.Open(s.T))
	a, b := node("a", "1"), node("b", "1")
	ra := s.register(s.store.Open(s.T), a)
	s.register(s.store.Open(s.T), b)
	w.await(soon, "both nodes", has(a, b))
	s.store.Disconnect(s.T, true)
	w.await(noticed, "disconnected", disconnected)
	ra.stop()
	if err := s.awaitEnd(ra, noticed); err != nil {
		s.Errorf("Register returned %v, want nil", err)
	}
	s.store.Disconnect(s.T, false)
	w.await(s.dead, "only b", func(v membership.View) bool { return v.Connected && has(b)(v) && lacks(a)(v) })
	w.always(soon, "only b", func(v membership.View) bool { return has(b)(v) && lacks(a)(v) })
}

// renewed wants renewals to be told, and none that did not succeed.
func (s *suite) renewed() {
	h := s.store.Open(s.T)
	w := s.watch(s.store.Open(s.T))
	if got := h.Renewed(); !got.IsZero() {
		s.Errorf("renewed at %v, before anything was announced", got)
	}
	start := time.Now()
	a := node("a", "1")
	s.register(h, a)
	w.await(soon, "a", has(a))
	s.renewedAfter(h, start)
	<-time.After(s.Lease)
	s.renewedAfter(h, time.Now().Add(-s.Lease/2))

	h.Disconnect(true)
	cut := time.Now()
	<-time.After(s.Lease)
	if got := h.Renewed(); got.After(cut) {
		s.Errorf("renewed %v after it was cut off", got.Sub(cut))
	}
	w.await(s.dead, "a is gone", lacks(a))
	back := time.Now()
	h.Disconnect(false)
	w.await(noticed, "a again", has(a))
	s.renewedAfter(h, back)

	// A renewal says nothing to a node that another has replaced.
	s.register(s.store.Open(s.T), node("a", "2"))
	w.await(soon, "the young node", has(node("a", "2")))
	<-time.After(soon)
	replaced := time.Now()
	<-time.After(s.Lease)
	if got := h.Renewed(); got.After(replaced) {
		s.Errorf("renewed %v after it was replaced", got.Sub(replaced))
	}
}

// renewedAfter waits for a renewal that was sent after a time.
func (s *suite) renewedAfter(h Handle, after time.Time) {
	s.Helper()
	for limit := s.limit(soon); h.Renewed().Before(after); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			s.Fatalf("no renewal after %v; the last at %v", after, h.Renewed())
		}
	}
	if got := h.Renewed(); got.After(time.Now()) {
		s.Errorf("renewed at %v, which is yet to come", got)
	}
}
