package holding

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHoldingConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		zones := rapid.SampledFrom([][]string{{""}, {"x", "y"}, {"x", "y", "z"}}).Draw(t, "zones")
		one := rapid.IntRange(2, 8).Draw(t, "writes in a failure")
		writes := 0
		w.fails = func() bool { writes++; return writes%one == 0 }
		any := func(t *rapid.T) *process {
			p := w.there[names.Draw(t, "name")]
			if p == nil {
				t.Skip("no such process")
			}
			return p
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) { w.join(names.Draw(t, "name"), rapid.SampledFrom(zones).Draw(t, "zone")) },
			"drain": func(t *rapid.T) {
				any(t).Draining = true
				w.look()
			},
			"crash": func(t *rapid.T) { w.end(name(any(t).Member)) },
			"cut": func(t *rapid.T) {
				p := any(t)
				p.cut = !p.cut
				w.look()
			},
			"caution":    func(t *rapid.T) { w.view.Cautious = rapid.Bool().Draw(t, "cautious") },
			"new leader": func(*rapid.T) { w.planner = New() },
			"plan": func(t *rapid.T) {
				w.plan()
				w.now = w.now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
			},
			"wait": func(*rapid.T) {
				for range 10 {
					w.plan()
					w.now = w.now.Add(Rest / 5)
				}
			},
		})
		// All is well again: who is cut off comes back.
		w.fails = nil
		w.view.Cautious = false
		for _, p := range w.there {
			p.cut = false
		}
		w.look()
		w.rest()
		if !w.settled {
			t.Fatalf("rests, and is not settled")
		}
		w.check()
	})
}
