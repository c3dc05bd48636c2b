package placement

import (
	"fmt"
	"testing"
)

func BenchmarkPlan(b *testing.B) {
	for _, brokers := range []int{3, 30} {
		b.Run(fmt.Sprint(brokers, " brokers"), func(b *testing.B) {
			w := newWorld(b, Config{})
			for i := range brokers {
				w.join(fmt.Sprintf("b%02d", i), fmt.Sprint(i%3))
			}
			w.rest()
			b.ReportAllocs()
			for b.Loop() {
				if p := w.planner.Plan(w.view, w.now); len(p.Changes) > 0 {
					b.Fatal(p)
				}
			}
		})
	}
}
