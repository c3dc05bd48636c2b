package placement

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/internal/shard"
)

func TestPlacementConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, Config{
			Replicas:     rapid.IntRange(1, 3).Draw(t, "replicas"),
			UncleanAfter: rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(t, "unclean after"),
			RepairAfter:  rapid.SampledFrom([]time.Duration{0, 10 * time.Second}).Draw(t, "repair after"),
			Burst:        rapid.IntRange(1, 32).Draw(t, "burst"),
			Copies:       rapid.IntRange(1, 32).Draw(t, "copies"),
			Rest:         5 * time.Second,
		})
		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		zones := rapid.SampledFrom([][]string{{""}, {"x", "y"}, {"x", "y", "z"}}).Draw(t, "zones")
		one := rapid.IntRange(2, 8).Draw(t, "writes in a failure")
		writes := 0
		w.fails = func() bool { writes++; return writes%one == 0 }
		any := func(t *rapid.T) string {
			name := names.Draw(t, "name")
			if w.brokers[name] == nil {
				t.Skip("no such broker")
			}
			return name
		}
		advance := func(t *rapid.T) {
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) { w.join(names.Draw(t, "name"), rapid.SampledFrom(zones).Draw(t, "zone")) },
			"drain": func(t *rapid.T) {
				w.brokers[any(t)].Draining = true
				w.look()
			},
			"crash": func(t *rapid.T) {
				name := any(t)
				member := w.brokers[name].Member
				w.end(name)
				if rapid.Bool().Draw(t, "known lost") {
					w.view.Lost[member] = true
				}
			},
			"cut":     func(t *rapid.T) { w.cut(any(t), true) },
			"connect": func(t *rapid.T) { w.cut(any(t), false) },
			"caution": func(t *rapid.T) { w.view.Cautious = rapid.Bool().Draw(t, "cautious") },
			"order": func(t *rapid.T) {
				n := shard.Slot(rapid.IntRange(0, shard.Slots-1).Draw(t, "slot"))
				w.view.Orders = Orders{}
				switch rapid.IntRange(0, 1).Draw(t, "kind") {
				case 0:
					w.view.Orders.Recover = map[shard.Slot]bool{n: true}
				case 1:
					w.view.Orders.Move = map[shard.Slot]string{n: names.Draw(t, "to")}
				}
			},
			"plan": func(t *rapid.T) {
				w.plan()
				advance(t)
			},
			"primaries": func(t *rapid.T) {
				steps := rapid.Uint64().Draw(t, "steps")
				i := 0
				w.primaries(func() bool { i++; return steps>>(i%64)&1 == 1 })
				advance(t)
			},
			"wait": func(*rapid.T) { w.now = w.now.Add(20 * time.Second) },
		})
		// All is well again: who is cut off comes back, who died is known to have.
		w.fails = nil
		w.view.Cautious, w.view.Orders = false, Orders{}
		for name := range w.brokers {
			w.cut(name, false)
		}
		for member := range w.past {
			w.view.Lost[member] = true
		}
		w.rest()
		w.now = w.now.Add(2 * orderRest)
		w.rest()
		if len(w.hosts()) > 0 && len(w.planner.absent) == 0 && !w.settled {
			t.Fatalf("rests, and is not settled")
		}
		w.check()
	})
}
