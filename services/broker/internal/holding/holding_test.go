package holding

import (
	"fmt"
	"testing"

	"github.com/comet-push/comet/internal/shard"
)

// settled returns a world at rest with processes a, b, c… in turn in some zones.
func settled(t failer, processes, zones int) *world {
	w := newWorld(t)
	for i := range processes {
		w.join(name26(i), fmt.Sprint(i%zones))
	}
	w.rest()
	w.check()
	clear(w.written)
	return w
}

func name26(i int) string { return string(rune('a' + i)) }

func (w *world) member(name string) string { return w.there[name].Member }

// TestFewestMoves states how many rows are written at most, by what the process
// that comes or goes holds and is the first of while it is there.
func TestFewestMoves(t *testing.T) {
	tests := []struct {
		name   string
		change func(w *world, last string) // of the last process of the world
		before bool                        // whether the last process is there before the change
		most   func(holds, firsts int) int
	}{
		{
			"join", func(w *world, last string) { w.join(last, "0") }, false,
			func(holds, firsts int) int { return holds + firsts },
		},
		{
			"drain", func(w *world, last string) { w.there[last].Draining = true; w.look() }, true,
			func(holds, _ int) int { return holds },
		},
		{
			"crash", func(w *world, last string) { w.end(last) }, true,
			func(holds, _ int) int { return holds },
		},
		{
			"crash and return", func(w *world, last string) { w.join(last, "0") }, true,
			func(holds, firsts int) int { return holds + firsts },
		},
	}
	for _, tt := range tests {
		for processes := 2; processes <= 8; processes++ {
			t.Run(fmt.Sprintf("%s/%d processes", tt.name, processes), func(t *testing.T) {
				last, there := name26(processes-1), processes-1
				if tt.before {
					there++
				}
				w := settled(t, there, 1)
				var firsts, holds map[string]int
				var member string
				if tt.before {
					firsts, holds = w.loads()
					member = w.member(last)
				}
				tt.change(w, last)
				took := w.rest()
				w.check()
				if !tt.before {
					firsts, holds = w.loads()
					member = w.member(last)
				}
				total := 0
				for _, n := range w.written {
					total += n
				}
				t.Logf("holds %d, first of %d: %v in %v", holds[member], firsts[member], w.written, took)
				limit := tt.most(holds[member], firsts[member])
				if limit += limit / 16; total > limit {
					t.Errorf("%d rows were written, want at most %d", total, limit)
				}
			})
		}
	}
}

// TestFirstRows wants what is written first to be even at once.
func TestFirstRows(t *testing.T) {
	for processes := 1; processes <= 8; processes++ {
		w := newWorld(t)
		for i := range processes {
			w.join(name26(i), "")
		}
		if n := w.plan(); n != shard.PresenceShards {
			t.Errorf("%d rows in the first plan", n)
		}
		w.check()
		if h := w.view.Table.Holders(0); h.Epoch != uint64(start().Unix()) {
			t.Errorf("%d processes: first row is %+v", processes, h)
		}
	}
}

// TestGoneAndComeBack follows what becomes of one row.
func TestGoneAndComeBack(t *testing.T) {
	w := newWorld(t)
	epoch := uint64(start().Unix())
	want := func(what string, rise uint64, first, second string) {
		t.Helper()
		h := w.view.Table.Holders(0)
		if h.Epoch != epoch+rise || h.First != first || h.Second != second {
			t.Errorf("%s: %+v, want epoch %d, %s and %s", what, h, epoch+rise, first, second)
		}
	}
	w.plan()
	want("nobody", -epoch, "", "")
	w.join("a", "x") // a@1
	w.plan()
	want("one", 0, "a@1", "")
	w.join("b", "x") // b@2
	w.join("c", "y") // c@3
	w.plan()
	want("the other zone is preferred", 0, "a@1", "c@3")
	w.end("a")
	w.view.Cautious = true
	w.plan()
	want("caution", 0, "a@1", "c@3")
	w.view.Cautious = false
	w.plan()
	want("first is gone", 1, "c@3", "b@2")
	w.join("b", "x") // b@4
	w.view.Cautious = true
	w.plan()
	want("second was replaced", 1, "c@3", "b@4")
	w.view.Cautious = false
	w.there["c"].Draining = true
	w.look()
	w.plan()
	want("first drains, second is new", 1, "c@3", "b@4")
	w.now = w.now.Add(Settle)
	w.plan()
	want("first drains, and there is nobody else", 2, "b@4", "c@3")
	w.join("d", "z") // d@5
	w.plan()
	want("second drains", 2, "b@4", "d@5")
	w.end("b")
	w.end("d")
	w.plan()
	want("both are gone, who is there drains", 3, "c@3", "")
	w.join("e", "z") // e@6
	w.plan()
	w.plan()
	w.now = w.now.Add(Settle)
	w.plan()
	want("another comes", 4, "e@6", "c@3")
	w.end("e")
	w.end("c")
	w.plan()
	want("nobody is there", 4, "e@6", "c@3")
}

func BenchmarkPlan(b *testing.B) {
	w := settled(b, 8, 2)
	for b.Loop() {
		w.planner.Plan(w.view, w.now)
	}
}
