package controller_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/controller"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

func TestSoleCopiesAreLostOnlyOnEvidence(t *testing.T) {
	tests := []struct {
		name    string
		do      func(f *fixture, a, b *process)
		durable bool
		moved   time.Duration // at most; 0: never
	}{
		{"crashed, refuses", func(f *fixture, _, b *process) {
			f.say("b@1", controller.Gone)
			b.dir.Kill()
		}, false, lease + 2*time.Second},
		{"crashed, refuses, has a disk", func(f *fixture, _, b *process) {
			f.say("b@1", controller.Gone)
			b.dir.Kill()
		}, true, 0},
		{"crashed, silent", func(_ *fixture, _, b *process) { b.dir.Kill() }, false, 0},
		{"cut off from the store, answers", func(f *fixture, _, b *process) {
			f.say("b@1", controller.Alive)
			b.dir.Disconnect(true)
		}, false, 0},
		{"came back with another id", func(f *fixture, _, b *process) {
			b.dir.Kill()
			f.start("b", "2", false)
		}, true, time.Second},
		{"draining", func(_ *fixture, _, b *process) { b.drain() }, false, 3 * time.Second},
		{"cordoned like all others, then silent", func(_ *fixture, a, b *process) {
			a.cordon()
			b.cordon()
			synctest.Wait() // so b keeps its slots
			b.dir.Kill()
		}, false, 0},
		{"withdrew without a word", func(_ *fixture, _, b *process) { b.end() }, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, placement.Config{Replicas: 1})
				a, b := f.start("a", "1", tt.durable), f.start("b", "1", tt.durable)
				f.control("a@1", a.dir)
				f.settle()
				tt.do(f, a, b)
				within := tt.moved
				if within == 0 {
					within = 5 * time.Minute
				}
				if after, moved := f.leadsNothing("b@1", within); moved != (tt.moved > 0) {
					t.Errorf("moved: %v after %v", moved, after)
				}
			})
		})
	}
}

func TestDrainKeepsHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{})
		a, b := f.start("a", "1", false), f.start("b", "1", false)
		f.start("c", "1", false)
		f.control("a@1", a.dir)
		f.settle()
		before := f.table()
		b.drain()
		after, moved := f.leadsNothing("b@1", 10*time.Second)
		if !moved {
			t.Fatalf("b leads %d slots after %v", f.leads("b@1"), after)
		}
		for f.holds("b@1") > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		now := f.table()
		for n := range shard.Slot(shard.Slots) {
			if now.Row(n).Base != before.Row(n).Base || len(now.Row(n).InSync) != 2 {
				t.Fatalf("slot %d went from %+v to %+v", n, before.Row(n), now.Row(n))
			}
		}
	})
}

func TestDrainedWithNobodyToTakeTheSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{Replicas: 1})
		a, b := f.start("a", "1", false), f.start("b", "1", false)
		f.control("a@1", a.dir)
		f.settle()
		a.drain()
		b.drain()
		synctest.Wait()
		b.end()
		f.start("c", "1", false)
		if after, moved := f.leadsNothing("b@1", 5*time.Second); !moved || f.leads("c@1") == 0 {
			t.Errorf("moved: %v after %v; c leads %d slots", moved, after, f.leads("c@1"))
		}
	})
}

func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{UncleanAfter: 30 * time.Second})
		a, b := f.start("a", "1", false), f.start("b", "1", false)
		f.start("c", "1", false)
		f.control("a@1", a.dir)
		f.settle()
		before := f.table()
		b.dir.Kill() // no probe says anything
		after, moved := f.leadsNothing("b@1", time.Minute)
		if !moved || after > lease+time.Second {
			t.Errorf("moved: %v after %v", moved, after)
		}
		f.rest()
		for n := range shard.Slot(shard.Slots) {
			if r := f.table().Row(n); r.Base != before.Row(n).Base || len(r.InSync) != 2 {
				t.Fatalf("slot %d: %+v", n, r)
			}
		}
	})
}

// TestSilenceOfAll kills both holders of a third of the slots; of one of them
// it is known.
func TestSilenceOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{UncleanAfter: 30 * time.Second})
		a := f.start("a", "1", false)
		b, c := f.start("b", "1", false), f.start("c", "1", false)
		ca := f.control("a@1", a.dir)
		f.settle()
		begin := time.Now()
		f.say("b@1", controller.Gone)
		b.dir.Kill()
		time.Sleep(100 * time.Millisecond) // c is the last to hold what they shared
		c.dir.Kill()
		time.Sleep(lease + 2*time.Second)
		waiting, leads := ca.Waiting()
		if !leads || len(waiting) < 80 || len(waiting) > 90 {
			t.Errorf("%d slots wait; leads: %v", len(waiting), leads)
		}
		for n, what := range waiting {
			if what != placement.ForSilence {
				t.Errorf("slot %d waits for %s", n, what)
			}
		}
		for f.leads("a@1") < shard.Slots {
			time.Sleep(100 * time.Millisecond)
			if time.Since(begin) > time.Minute {
				t.Fatalf("a leads %d slots", f.leads("a@1"))
			}
		}
		if took := time.Since(begin); took < lease+30*time.Second || took > lease+32*time.Second {
			t.Errorf("all slots are led after %v, want %v", took, lease+30*time.Second)
		}
		if waiting, _ := ca.Waiting(); len(waiting) > 0 {
			t.Errorf("%d slots wait in the end", len(waiting))
		}
	})
}

func TestNobodyIsLostInQuarantine(t *testing.T) {
	for _, replicas := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, placement.Config{Replicas: replicas})
			a, b := f.start("a", "1", false), f.start("b", "1", false)
			f.control("a@1", a.dir)
			f.settle()
			f.say("b@1", controller.Gone)
			// An outage in which b crashes: it may only be late to come back.
			f.store.Disconnect(true)
			b.dir.Kill()
			time.Sleep(time.Minute)
			f.store.Disconnect(false)
			after, moved := f.leadsNothing("b@1", time.Minute)
			if !moved || after < 3*lease || after > 3*lease+4*time.Second {
				t.Errorf("%d copies: moved: %v after %v, want after %v", replicas, moved, after, 3*lease)
			}
		})
	}
}

func TestTheNextLeaderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{})
		a, b := f.start("a", "1", false), f.start("b", "1", false)
		f.control("a@1", a.dir)
		f.control("b@1", b.dir)
		f.settle()
		a.dir.Kill()
		// b has watched all the time, so it need not wait after its election.
		after, moved := f.leadsNothing("a@1", time.Minute)
		if !moved || after > lease+time.Second || f.leads("b@1") != shard.Slots {
			t.Errorf("moved: %v after %v; b leads %d slots", moved, after, f.leads("b@1"))
		}
	})
}

// TestALeaderThatNeverSawTheOwner asks at the address that the row has.
func TestALeaderThatNeverSawTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{Replicas: 1})
		a := f.start("a", "1", false)
		f.control("a@1", a.dir)
		time.Sleep(10 * time.Second)
		a.dir.Kill()
		time.Sleep(time.Minute)
		f.say("a@1", controller.Gone)
		b := f.start("b", "1", false)
		f.control("b@1", b.dir)
		after, moved := f.leadsNothing("a@1", time.Minute)
		if !moved || after < 3*lease || f.leads("b@1") != shard.Slots {
			t.Errorf("moved: %v after %v; b leads %d slots", moved, after, f.leads("b@1"))
		}
	})
}

func TestTheFirstRowsAreWrittenQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{})
		a := f.start("a", "1", false)
		begin := time.Now()
		f.control("a@1", slowly{a.dir})
		for f.leads("a@1") < shard.Slots {
			time.Sleep(10 * time.Millisecond)
			if time.Since(begin) > time.Second {
				t.Fatalf("a leads %d slots after a second", f.leads("a@1"))
			}
		}
		t.Logf("all slots have a primary after %v", time.Since(begin))
	})
}

func TestOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, placement.Config{Replicas: 1})
		a, b := f.start("a", "1", false), f.start("b", "1", false)
		ca, cb := f.control("a@1", a.dir), f.control("b@1", b.dir)
		f.settle()
		n := f.ledBy("b@1")
		if err := cb.Move(t.Context(), n, "a"); !errors.Is(err, membership.ErrNotLeader) {
			t.Errorf("order to one who does not lead: %v", err)
		}
		var refused *controller.RefusedError
		if err := ca.Move(t.Context(), n, "x"); !errors.As(err, &refused) || !strings.Contains(err.Error(), "no broker named x") {
			t.Errorf("move to nobody: %v", err)
		}
		if err := ca.Recover(t.Context(), n); !errors.As(err, &refused) {
			t.Errorf("recovery of what is led: %v", err)
		}
		base := f.table().Row(n).Base
		if err := ca.Move(t.Context(), n, "a"); err != nil {
			t.Fatal(err)
		}
		f.rest()
		if r := f.table().Row(n); r.Primary != "a@1" || r.Base != base || len(r.InSync) != 1 {
			t.Errorf("moved: %+v", r)
		}

		n = f.ledBy("b@1")
		b.dir.Kill()
		time.Sleep(time.Minute)
		before := f.table().Row(n)
		if before.Primary != "b@1" {
			t.Fatalf("given to another without a word: %+v", before)
		}
		if err := ca.Recover(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if r := f.table().Row(n); r.Primary != "a@1" || r.Term != before.Term+1 || r.Base <= before.Base {
			t.Errorf("recovered: %+v", r)
		}
		f.store.Disconnect(true)
		time.Sleep(time.Second)
		if err := ca.Recover(t.Context(), f.ledBy("b@1")); !errors.Is(err, controller.ErrStore) {
			t.Errorf("order while the store is away: %v", err)
		}
	})
}
