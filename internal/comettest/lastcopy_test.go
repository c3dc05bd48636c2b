package comettest_test

import (
	"testing"
	"time"
)

// TestLastCopies stops a broker that is alone in sync for its slots. Others
// take them while it drains, as soon as they can.
func TestLastCopies(t *testing.T) {
	// alone leaves the primary of a channel alone in sync, and returns it and the
	// one that held the other copy.
	alone := func(w *world) (primary, backup string) {
		primary, backup = w.primary("/calm/0"), w.backup("/calm/0")
		w.Net.Partition(primary, backup)
		time.Sleep(5 * time.Second)
		if row := w.audit.Row("/calm/0"); len(row.InSync) != 1 || nameOf(row.Primary) != primary {
			w.t.Fatalf("%s is not alone: %+v", primary, row)
		}
		return primary, backup
	}
	playAll(t, []scenario{
		{name: "mended before", do: func(w *world) {
			primary, backup := alone(w)
			w.Net.Heal(primary, backup)
			w.Stop(primary)
			time.Sleep(10 * time.Second)
			w.kept()
		}},
		{name: "mended meanwhile", do: func(w *world) {
			primary, backup := alone(w)
			time.AfterFunc(10*time.Second, func() { w.Net.Heal(primary, backup) })
			w.Stop(primary)
			time.Sleep(10 * time.Second)
			w.kept()
		}},
		{name: "mended at last", ci: true, do: func(w *world) {
			primary, _ := alone(w)
			for _, other := range w.others(primary) {
				w.Net.Partition(primary, other)
			}
			time.AfterFunc(12*time.Second, w.Net.Calm)
			w.Stop(primary)
			time.Sleep(10 * time.Second)
			w.kept()
		}},
		{name: "one is out of reach", do: func(w *world) {
			primary, _ := alone(w)
			begin := time.Now()
			w.Stop(primary)
			if took := time.Since(begin); took > 8*time.Second {
				w.t.Errorf("the drain took %v, though one broker was in reach", took)
			}
			time.Sleep(10 * time.Second)
			w.kept()
		}},
		{name: "nobody is in reach", do: func(w *world) {
			primary, _ := alone(w)
			for _, other := range w.others(primary) {
				w.Net.Partition(primary, other)
			}
			begin := time.Now()
			w.Stop(primary)
			if took := time.Since(begin); took < 18*time.Second || took > 20*time.Second {
				w.t.Errorf("the drain took %v", took)
			}
			time.Sleep(30 * time.Second)
			if len(w.audit.Anew()) == 0 {
				w.t.Error("the only copies are gone, and no slot began anew")
			}
		}},
	})
}
