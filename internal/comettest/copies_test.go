package comettest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
)

// TestFollowCopies has edges follow slots at copies, while what may befall a
// primary or a copy does.
func TestFollowCopies(t *testing.T) {
	var scenarios []scenario
	for _, s := range []scenario{
		{name: "calm", do: func(w *world) { w.kept() }},
		{name: "backups killed", ci: true, do: func(w *world) { w.killThrice((*world).backup) }},
		{name: "primaries killed", do: func(w *world) { w.killThrice((*world).primary) }},
		{name: "copies cut off", do: func(w *world) {
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

// killThrice kills a broker that holds a calm channel, and starts it again.
func (w *world) killThrice(holder func(w *world, channel string) string) {
	for range 3 {
		broker := holder(w, "/calm/0")
		w.Crash(broker)
		time.Sleep(10 * time.Second)
		w.Start(broker)
		time.Sleep(20 * time.Second)
	}
	w.kept()
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

// TestCopiesAreAsFast compares when a message comes to edges that follow its
// slot at the primary, and to those that follow it at the copy: nothing waits
// for a tick.
func TestCopiesAreAsFast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const edges = 8 // half of them with the primary, give or take
		c := comettest.New(t, comettest.Options{Edges: edges, Brokers: 2, Presence: 1, Configure: followCopies})
		c.Balanced(time.Minute)
		p := c.Publish("backend", "/news", 730*time.Millisecond)
		var clients []*comettest.Client
		for i := range edges {
			clients = append(clients, c.Connect(comettest.Profile{
				Name: fmt.Sprintf("reader-%d", i), Transport: comettest.SSE, Channels: []string{p.Channel},
				Edges: []string{fmt.Sprintf("edge-%d", i)},
			}))
		}
		time.Sleep(5 * time.Second) // all have crossed
		begin := p.Acked()
		time.Sleep(time.Minute)
		end := p.Acked()
		settle(t, []*comettest.Publisher{p})
		first, last := map[int]time.Time{}, map[int]time.Time{}
		for _, client := range clients {
			for _, r := range client.Of(comettest.Event) {
				if at, ok := first[r.N]; !ok || r.At.Before(at) {
					first[r.N] = r.At
				}
				if r.At.After(last[r.N]) {
					last[r.N] = r.At
				}
			}
		}
		for n := begin + 2; n <= end; n++ {
			if behind := last[n].Sub(first[n]); first[n].IsZero() || behind > 10*time.Millisecond {
				t.Errorf("message %d came to some clients %v after others", n, behind)
			}
		}
		if end-begin < 50 {
			t.Errorf("only %d messages in a minute", end-begin)
		}
	})
}
