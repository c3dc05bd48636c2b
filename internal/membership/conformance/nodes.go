package conformance

import (
	"context"
	"errors"

	"github.com/google/go-cmp/cmp"

	"github.com/comet-push/comet/internal/membership"
)

func (s *suite) announce() {
	h := s.store.Open(s.T)
	w := s.watch(s.store.Open(s.T))
	w.await(soon, "an empty directory", func(v membership.View) bool { return v.Connected && len(v.Nodes) == 0 })

	a, b := node("a", "1"), node("b", "1")
	ra := s.register(h, a)
	s.register(s.store.Open(s.T), b)
	v := w.await(soon, "both nodes", has(a, b))
	if diff := cmp.Diff(a, v.Nodes["a"]); diff != "" {
		s.Errorf("announced node (-want +got):\n%s", diff)
	}
	w.always(2*s.Lease, "both nodes", has(a, b))

	a.Draining = true
	ra.updates <- a
	w.await(soon, "the update", has(a))

	ra.stop()
	if err := s.awaitEnd(ra, soon); err != nil {
		s.Errorf("Register returned %v, want nil", err)
	}
	w.await(soon, "a withdrawn", lacks(a))
	w.always(soon, "b stays", has(b))
}

func (s *suite) replace() {
	w := s.watch(s.store.Open(s.T))
	old, young := node("n", "2"), node("n", "1") // ids have no order
	ro := s.register(s.store.Open(s.T), old)
	w.await(soon, "the old node", has(old))

	ry := s.register(s.store.Open(s.T), young)
	w.await(soon, "the young node", has(young))
	if err := s.awaitEnd(ro, soon); !errors.Is(err, membership.ErrReplaced) {
		s.Errorf("the old one's Register returned %v, want ErrReplaced", err)
	}
	w.always(2*s.Lease, "the young node stays", has(young))
	select {
	case <-ry.ended:
		s.Errorf("the young one's Register ended: %v", ry.err)
	default:
	}
}

func (s *suite) replaceCutOff() {
	w := s.watch(s.store.Open(s.T))
	old, young := node("n", "1"), node("n", "2")
	h := s.store.Open(s.T)
	ro := s.register(h, old)
	w.await(soon, "the old node", has(old))

	h.Disconnect(true)
	s.register(s.store.Open(s.T), young)
	w.await(soon, "the young node, before the old lease ended", has(young))
	w.always(2*s.Lease, "the young node stays", has(young))
	h.Disconnect(false)
	if err := s.awaitEnd(ro, noticed); !errors.Is(err, membership.ErrReplaced) {
		s.Errorf("the old one's Register returned %v, want ErrReplaced", err)
	}
	w.always(soon, "the young node stays", has(young))
}

func (s *suite) kill() {
	w := s.watch(s.store.Open(s.T))
	a, b := node("a", "1"), node("b", "1")
	h := s.store.Open(s.T)
	s.register(h, a)
	s.register(s.store.Open(s.T), b)
	w.await(soon, "both nodes", has(a, b))
	h.Kill()
	w.always(s.Lease/2, "the lease holds", has(a))
	w.await(s.dead-s.Lease/2, "a is gone", lacks(a))
	w.always(soon, "b stays", has(b))

	again := node("a", "2")
	s.register(s.store.Open(s.T), again)
	w.await(soon, "a came back", has(again))
}

func (s *suite) expire() {
	w := s.watch(s.store.Open(s.T))
	a := node("a", "1")
	s.register(s.store.Open(s.T), a)
	w.await(soon, "a", has(a))
	s.store.Expire(s.T, a)
	w.always(soon, "anything", func(membership.View) bool { return true }) // the view of before will not do
	w.await(soon, "a again", has(a))
	w.always(2*s.Lease, "a stays", has(a))
}

func (s *suite) reuseName() {
	w := s.watch(s.store.Open(s.T))
	h := s.store.Open(s.T)
	for _, id := range []string{"1", "2", "3", "2"} {
		n := node("a", id)
		r := s.register(h, n)
		w.await(soon, "a@"+id, has(n))
		r.stop()
		if err := s.awaitEnd(r, soon); err != nil {
			s.Errorf("Register of a@%s returned %v, want nil", id, err)
		}
	}
	w.await(soon, "an empty directory", func(v membership.View) bool { return len(v.Nodes) == 0 })
}

func (s *suite) watchers() {
	a := node("a", "1")
	h := s.store.Open(s.T)
	s.register(h, a)
	first := s.watch(h)
	first.await(soon, "a", has(a))

	ctx, cancel := context.WithCancel(s.Context())
	late := h.Watch(ctx)
	select {
	case v := <-late:
		if !has(a)(v) {
			s.Errorf("a late watcher first sees %v, want a", v.Nodes)
		}
	case <-s.limit(soon):
		s.Error("a late watcher sees nothing")
	}
	cancel()
	for limit := s.limit(soon); ; {
		select {
		case _, open := <-late:
			if open {
				continue
			}
		case <-limit:
			s.Error("the channel was not closed when its context ended")
		}
		break
	}
	b := node("b", "1")
	s.register(h, b)
	first.await(soon, "b, by the watcher that stayed", has(a, b))
}
