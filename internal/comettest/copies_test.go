package comettest_test

import (
	"testing"
	"time"

	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
)

// TestFollowCopies has edges follow slots at copies, while what may befall a
// primary or a copy does.
func TestFollowCopies(t *testing.T) {
	var scenarios []scenario
	for _, s := range []scenario{
		{name: "calm", ci: true, do: func(w *world) { w.kept() }},
		{name: "backups killed", ci: true, do: func(w *world) {
			for range 3 {
				backup := w.backup("/calm/0")
				w.Crash(backup)
				time.Sleep(10 * time.Second)
				w.Start(backup)
				time.Sleep(20 * time.Second)
			}
			w.kept()
		}},
		{name: "primaries killed", ci: true, do: func(w *world) {
			for range 3 {
				primary := w.primary("/calm/0")
				w.Crash(primary)
				time.Sleep(10 * time.Second)
				w.Start(primary)
				time.Sleep(20 * time.Second)
			}
			w.kept()
		}},
		{name: "copies cut off", ci: true, do: func(w *world) {
			for _, length := range []time.Duration{time.Second, 10 * time.Second, 40 * time.Second} {
				w.apart((*comettest.Network).Partition, w.primary("/calm/0"), w.backup("/calm/0"), length, 15*time.Second)
			}
			w.kept()
		}},
		{name: "rolling", do: func(w *world) {
			for _, name := range w.names() {
				w.Restart(name)
				w.Balanced(time.Minute)
			}
			w.kept()
		}},
	} {
		do := s.do
		s.do = func(w *world) {
			time.Sleep(5 * time.Second)
			do(w)
			time.Sleep(20 * time.Second)
			w.atCopies()
		}
		s.configure = followCopies
		scenarios = append(scenarios, s)
	}
	playAll(t, scenarios)
}

func followCopies(_ string, cfg *config.Config) { cfg.Edge.FollowCopies = true }

// atCopies fails the test unless many slots are followed at copies: of two edges
// and two copies one edge or both follow three of four slots so.
func (w *world) atCopies() {
	w.t.Helper()
	var followed float64
	for _, name := range w.names() {
		followed += w.Value(name, "comet_broker_slots_followed_at_backup")
	}
	if followed < 128 || followed > 240 {
		w.t.Errorf("%v slots are followed at copies", followed)
	}
}
