package comettest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/config"
)

// TestPartitions closes the ways between two nodes, one of them or both, for a
// while, and for moments again and again.
func TestPartitions(t *testing.T) {
	t.Parallel()
	for _, ways := range []struct {
		name  string
		close func(w *world, a, b string)
	}{
		{"both", func(w *world, a, b string) { w.Net.Partition(a, b) }},
		{"there", func(w *world, a, b string) { w.Net.Block(a, b) }},
		{"back", func(w *world, a, b string) { w.Net.Block(b, a) }},
	} {
		within(t, "brokers/"+ways.name, func(w *world) {
			a := w.primary("/calm/0")
			b := w.backup("/calm/0")
			for _, length := range []time.Duration{time.Second, 10 * time.Second, 40 * time.Second} {
				ways.close(w, a, b)
				time.Sleep(length)
				w.Net.Heal(a, b)
				time.Sleep(5 * time.Second)
			}
			for range 20 {
				ways.close(w, a, b)
				time.Sleep(700 * time.Millisecond)
				w.Net.Heal(a, b)
				time.Sleep(700 * time.Millisecond)
			}
			w.kept()
		}, nil)
		within(t, "edge/"+ways.name, func(w *world) {
			a, b := "edge-0", w.primary("/calm/0")
			for _, length := range []time.Duration{time.Second, 40 * time.Second} {
				ways.close(w, a, b)
				time.Sleep(length)
				w.Net.Heal(a, b)
				time.Sleep(5 * time.Second)
			}
			w.kept()
		}, nil)
	}
	within(t, "directory", func(w *world) {
		for _, length := range []time.Duration{time.Second, 2 * time.Second, 30 * time.Second} {
			d := w.Node(w.primary("/calm/0")).Directory
			d.Disconnect(true)
			time.Sleep(length)
			d.Disconnect(false)
			time.Sleep(5 * time.Second)
		}
		w.kept()
	}, nil)
}

// TestOutage takes the directory from everybody for five minutes. Nobody
// notices; and when it is back nobody is declared dead.
func TestOutage(t *testing.T) {
	t.Parallel()
	within(t, "", func(w *world) {
		w.Store.Disconnect(true)
		time.Sleep(5 * time.Minute)
		before := w.audit.Row("/calm/0")
		w.Store.Disconnect(false)
		time.Sleep(3 * lease)
		if after := w.audit.Row("/calm/0"); after.Version != before.Version {
			w.t.Errorf("%+v became %+v", before, after)
		}
		for _, p := range w.publishers {
			if p.Slowest() > time.Second {
				w.t.Errorf("%s: a publish took %v", p.Channel, p.Slowest())
			}
		}
		w.kept()
	}, nil)
}

// TestIsolatedPrimary leaves a primary alone with publishers and clients.
func TestIsolatedPrimary(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"brokers", "directory", "both"} {
		within(t, from, func(w *world) {
			primary := w.primary("/calm/0")
			if from != "directory" {
				for _, other := range others(primary) {
					w.Net.Partition(primary, other)
				}
			}
			if from != "brokers" {
				w.Node(primary).Directory.Disconnect(true)
			}
			time.Sleep(50 * time.Second)
			w.kept()
		}, nil)
	}
}

// TestKills ends brokers without a word.
func TestKills(t *testing.T) {
	t.Parallel()
	within(t, "primary", func(w *world) {
		primary := w.primary("/calm/0")
		w.Crash(primary)
		time.Sleep(15 * time.Second)
		w.Start(primary)
		w.kept()
	}, nil)
	within(t, "same name at once", func(w *world) {
		for range 3 {
			primary := w.primary("/calm/0")
			w.Crash(primary)
			w.Start(primary)
			time.Sleep(20 * time.Second)
		}
		w.kept()
	}, nil)
	within(t, "both, repaired between", func(w *world) {
		primary, backup := w.primary("/calm/0"), w.backup("/calm/0")
		w.Crash(primary)
		time.Sleep(40 * time.Second)
		w.Crash(backup)
		time.Sleep(20 * time.Second)
		w.Start(primary)
		w.Start(backup)
		w.kept()
	}, nil)
	within(t, "both, too soon", func(w *world) {
		primary, backup := w.primary("/calm/0"), w.backup("/calm/0")
		w.Crash(primary)
		time.Sleep(time.Second)
		w.Crash(backup)
		time.Sleep(10 * time.Second)
		w.Start(primary)
		w.Start(backup)
		time.Sleep(30 * time.Second)
		if len(w.audit.Anew()) == 0 {
			w.t.Error("two of three brokers were lost, and no slot began anew")
		}
	}, nil)
}

// TestPauses stops brokers for a while.
func TestPauses(t *testing.T) {
	t.Parallel()
	within(t, "", func(w *world) {
		for i, length := range []time.Duration{500 * time.Millisecond, time.Second, 1900 * time.Millisecond, 3 * time.Second, 10 * time.Second} {
			name := w.primary("/calm/0")
			if i%2 == 1 {
				name = w.backup("/calm/0")
			}
			w.Pause(name, true)
			time.Sleep(length)
			w.Pause(name, false)
			time.Sleep(15 * time.Second)
		}
		w.kept()
	}, nil)
}

// TestRollingUnderLoad restarts all brokers, one after the other.
func TestRollingUnderLoad(t *testing.T) {
	t.Parallel()
	within(t, "", func(w *world) {
		for i := range 3 {
			w.Restart(fmt.Sprintf("broker-%d", i))
			w.Balanced(time.Minute)
		}
		for _, p := range w.publishers {
			if p.Slowest() > 250*time.Millisecond {
				w.t.Errorf("%s: a publish took %v", p.Channel, p.Slowest())
			}
		}
		w.kept()
	}, func(_ string, cfg *config.Config) { cfg.Broker.MinInSync = 2 })
}
