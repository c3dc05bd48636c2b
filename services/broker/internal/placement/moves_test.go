package placement

import (
	"fmt"
	"testing"

	"github.com/comet-push/comet/internal/shard"
)

// zoned returns a world at rest with brokers a, b, c… in turn in some zones.
func zoned(t failer, brokers, zones, replicas int) *world {
	w := newWorld(t, Config{Replicas: replicas})
	for i := range brokers {
		w.join(name26(i), fmt.Sprint(i%zones))
	}
	w.rest()
	w.check()
	if brokers%zones == 0 && (w.written[Balance] > 0 || w.written[Zones] > 0 || w.written[Preferred] > 4) {
		t.Fatalf("the first rows are not the last: %v", w.written)
	}
	w.copies, w.handovers = 0, 0
	clear(w.written)
	return w
}

func name26(i int) string { return string(rune('a' + i)) }

// held is how many slots a broker holds and leads.
func (w *world) held(name string) (copies, leads int) {
	b := w.brokers[name]
	if b == nil {
		return 0, 0
	}
	for n := range shard.Slot(shard.Slots) {
		row := w.view.Table.Row(n)
		for i, m := range row.Replicas {
			if m == b.Member {
				copies++
				if i == 0 {
					leads++
				}
			}
		}
	}
	return copies, leads
}

// TestFewestMoves states how much is copied and handed over at most, by what
// the broker that comes or goes holds and leads while it is there.
func TestFewestMoves(t *testing.T) {
	tests := []struct {
		name   string
		change func(w *world, last string) // of the last broker of the world
		before bool                        // whether the last broker is there before the change
		// copies and handovers are the bounds.
		copies, handovers func(holds, leads int) int
	}{
		{
			"join", func(w *world, last string) { w.join(last, "0") }, false,
			func(holds, _ int) int { return holds },
			func(_, leads int) int { return leads + leads/8 },
		},
		{
			"drain", func(w *world, last string) { w.brokers[last].Draining = true; w.look() }, true,
			func(holds, _ int) int { return holds + holds/32 },
			func(_, leads int) int { return 2 * leads },
		},
		{
			"crash", func(w *world, last string) { w.end(last) }, true,
			func(holds, _ int) int { return holds + holds/32 },
			func(_, leads int) int { return leads },
		},
		{
			"crash and return", func(w *world, last string) { w.join(last, "0") }, true,
			func(holds, _ int) int { return holds },
			func(_, leads int) int { return leads },
		},
	}
	for _, tt := range tests {
		for brokers := 3; brokers <= 8; brokers++ {
			for replicas := 2; replicas <= min(3, brokers-1); replicas++ {
				t.Run(fmt.Sprintf("%s/%d brokers, %d copies", tt.name, brokers, replicas), func(t *testing.T) {
					last := name26(brokers - 1)
					there := brokers - 1
					if tt.before {
						there++
					}
					w := zoned(t, there, 1, replicas)
					holds, leads := w.held(last)
					tt.change(w, last)
					took := w.rest()
					w.check()
					if !tt.before {
						holds, leads = w.held(last)
					}
					t.Logf("holds %d, leads %d: %d copies, %d hand-overs in %v", holds, leads, w.copies, w.handovers, took)
					if limit := tt.copies(holds, leads); w.copies > limit {
						t.Errorf("%d copies, want at most %d", w.copies, limit)
					}
					if limit := tt.handovers(holds, leads); w.handovers > limit {
						t.Errorf("%d hand-overs, want at most %d", w.handovers, limit)
					}
				})
			}
		}
	}
}
