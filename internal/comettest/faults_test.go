package comettest_test

import (
	"slices"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
)

// TestPartitions closes the ways between two nodes, one of them or both, for a
// while, and for moments again and again.
func TestPartitions(t *testing.T) {
	var scenarios []scenario
	for _, ways := range []struct {
		name  string
		close func(n *comettest.Network, a, b string)
	}{
		{"both", (*comettest.Network).Partition},
		{"there", (*comettest.Network).Block},
		{"back", func(n *comettest.Network, a, b string) { n.Block(b, a) }},
	} {
		scenarios = append(scenarios,
			scenario{name: "brokers/" + ways.name, ci: ways.name == "there", do: func(w *world) {
				a, b := w.primary("/calm/0"), w.backup("/calm/0")
				for _, length := range []time.Duration{time.Second, 10 * time.Second, 40 * time.Second} {
					w.apart(ways.close, a, b, length, 5*time.Second)
				}
				for range 20 {
					w.apart(ways.close, a, b, 700*time.Millisecond, 700*time.Millisecond)
				}
				w.kept()
			}},
			scenario{name: "edge/" + ways.name, do: func(w *world) {
				for _, length := range []time.Duration{time.Second, 20 * time.Second, 2 * time.Minute} {
					w.apart(ways.close, "edge-0", w.primary("/calm/0"), length, 5*time.Second)
				}
				w.kept()
			}},
		)
	}
	scenarios = append(scenarios, scenario{name: "directory", do: func(w *world) {
		for _, length := range []time.Duration{time.Second, lease, 30 * time.Second, 2 * time.Minute} {
			d := w.Node(w.primary("/calm/0")).Directory
			d.Disconnect(true)
			time.Sleep(length)
			d.Disconnect(false)
			time.Sleep(5 * time.Second)
		}
		w.kept()
	}})
	playAll(t, scenarios)
}

// apart closes ways between two nodes for a while.
func (w *world) apart(ways func(n *comettest.Network, a, b string), a, b string, length, rest time.Duration) {
	ways(w.Net, a, b)
	time.Sleep(length)
	w.Net.Heal(a, b)
	time.Sleep(rest)
}

// TestOutage takes the directory from everybody for five minutes. Nobody
// notices; and when it is back nobody is declared dead.
func TestOutage(t *testing.T) {
	playAll(t, []scenario{{name: "five minutes", do: func(w *world) {
		w.Store.Disconnect(true)
		time.Sleep(5 * time.Minute)
		before := w.audit.Row("/calm/0")
		w.Store.Disconnect(false)
		time.Sleep(3 * lease)
		if after := w.audit.Row("/calm/0"); after.Version != before.Version {
			w.t.Errorf("%+v became %+v", before, after)
		}
		w.fast(time.Second)
		w.kept()
	}}})
}

// TestIsolatedPrimary leaves a primary alone with publishers and clients.
func TestIsolatedPrimary(t *testing.T) {
	var scenarios []scenario
	for _, from := range []string{"brokers", "directory", "both"} {
		scenarios = append(scenarios, scenario{name: "from " + from, ci: from == "both", do: func(w *world) {
			primary := w.primary("/calm/0")
			if from != "directory" {
				for _, other := range w.others(primary) {
					w.Net.Partition(primary, other)
				}
			}
			if from != "brokers" {
				w.Node(primary).Directory.Disconnect(true)
			}
			time.Sleep(50 * time.Second)
			w.kept()
		}})
	}
	playAll(t, scenarios)
}

// TestKills ends brokers without a word.
func TestKills(t *testing.T) {
	playAll(t, []scenario{
		{name: "primary", ci: true, do: func(w *world) {
			primary := w.primary("/calm/0")
			w.Crash(primary)
			time.Sleep(15 * time.Second)
			w.Start(primary)
			w.fast(4 * time.Second)
			w.kept()
		}},
		{name: "same name at once", ci: true, do: func(w *world) {
			for range 3 {
				primary := w.primary("/calm/0")
				w.Crash(primary)
				w.Start(primary)
				time.Sleep(20 * time.Second)
			}
			w.kept()
		}},
		{name: "controller", do: func(w *world) {
			for range 3 {
				controller := nameOf(w.Store.Leader())
				w.Crash(controller)
				time.Sleep(20 * time.Second)
				w.Start(controller)
				time.Sleep(20 * time.Second)
			}
			w.kept()
		}},
		{name: "both, repaired between", do: func(w *world) {
			primary, backup := w.primary("/calm/0"), w.backup("/calm/0")
			w.Crash(primary)
			time.Sleep(40 * time.Second)
			w.Crash(backup)
			time.Sleep(20 * time.Second)
			w.Start(primary)
			w.Start(backup)
			w.kept()
		}},
		{name: "both, too soon", do: func(w *world) {
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
		}},
	})
}

// TestPauses stops brokers for a while.
func TestPauses(t *testing.T) {
	playAll(t, []scenario{{name: "primaries and backups", ci: true, do: func(w *world) {
		for i, length := range []time.Duration{500 * time.Millisecond, lease - 100*time.Millisecond, 3 * time.Second, 10 * time.Second} {
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
	}}})
}

// TestRollingUnderLoad restarts all brokers, one after the other, where two
// copies are demanded.
func TestRollingUnderLoad(t *testing.T) {
	playAll(t, []scenario{{
		name: "two in sync",
		do: func(w *world) {
			for _, name := range w.names() {
				w.Restart(name)
				w.Balanced(time.Minute)
			}
			w.fast(250 * time.Millisecond)
			w.kept()
		},
		configure: func(_ string, cfg *config.Config) { cfg.Broker.MinInSync = 2 },
	}})
}

// fast fails the test if a publish took longer, or was not acknowledged.
func (w *world) fast(limit time.Duration) {
	w.t.Helper()
	for _, p := range w.publishers {
		if p.Slowest() > limit {
			w.t.Errorf("%s: a publish took %v", p.Channel, p.Slowest())
		}
	}
}

// lease is that of the store.
const lease = 2 * time.Second

// primary is the node that leads the slot of a channel, and backup another that
// holds it.
func (w *world) primary(channel string) string { return nameOf(w.audit.Row(channel).Primary) }

func (w *world) backup(channel string) string {
	w.t.Helper()
	row := w.audit.Row(channel)
	i := slices.IndexFunc(row.InSync, func(m string) bool { return m != row.Primary })
	if i < 0 {
		w.t.Fatalf("%s has one copy: %+v", channel, row)
	}
	return nameOf(row.InSync[i])
}
