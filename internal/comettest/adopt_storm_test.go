package comettest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
)

// TestHomesStorm breaks edges and presence in random ways, one after the other:
// all clients keep their sessions, none is told of a loss, and those with the ack
// extension see everything once; but with odd seeds edges are cut off from the
// directory for longer than their lease lasts: then nobody keeps their records.
// Like TestStorm it has -seed and -storms.
func TestHomesStorm(t *testing.T) {
	t.Parallel()
	for s := *seed; s < *seed+uint64(*storms); s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHomes(t, stormClients(s%2 == 1)...)
				h.storm(rand.New(rand.NewPCG(s, 5)), 12, s%2 == 1)
				h.check()
			})
		})
	}
}

// stormClients are as clients, but a fault may hold up what vectors say.
func stormClients(cutOff bool) []comettest.Profile {
	all := clients()
	for i := range all {
		if all[i].Repeats > 0 || cutOff {
			all[i].Repeats = time.Minute
		}
	}
	return all
}

func (h *homes) storm(random *rand.Rand, faults int, cutOff bool) {
	edges, presence := []string{"edge-0", "edge-1", "edge-2"}, []string{"presence-0", "presence-1"}
	length := func(most time.Duration) time.Duration {
		return 100*time.Millisecond + time.Duration(random.Int64N(int64(most)))
	}
	say := func(format string, args ...any) {
		h.t.Logf("%s: %s", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
	for range faults {
		edge := edges[random.IntN(len(edges))]
		other := slices.DeleteFunc(slices.Clone(edges), func(name string) bool { return name == edge })[random.IntN(2)]
		holder := presence[random.IntN(len(presence))]
		d := length(30 * time.Second)
		switch random.IntN(8) {
		case 0, 1:
			say("%s crashes, for %v", edge, d)
			h.Crash(edge)
			time.Sleep(d)
			h.Start(edge)
		case 2:
			say("%s restarts", edge)
			h.Restart(edge)
		case 3:
			say("%s crashes, for %v", holder, d)
			h.Crash(holder)
			time.Sleep(d)
			h.Start(holder)
		case 4:
			d = min(d, 8*time.Second)
			say("%s stands still for %v", edge, d)
			h.Pause(edge, true)
			time.Sleep(d)
			h.Pause(edge, false)
		case 5:
			say("%s and %s are apart for %v", edge, other, d)
			h.Net.Partition(edge, other)
			time.Sleep(d)
			h.Net.Heal(edge, other)
		case 6:
			say("%s and %s are apart for %v", edge, holder, d)
			h.Net.Partition(edge, holder)
			time.Sleep(d)
			h.Net.Heal(edge, holder)
		case 7:
			if !cutOff {
				d /= 20 // its lease lasts 2 s
			}
			say("%s does not reach the directory for %v", edge, d)
			h.Node(edge).Directory.Disconnect(true)
			time.Sleep(d)
			h.Node(edge).Directory.Disconnect(false)
		}
		h.Ready(time.Minute)
		time.Sleep(10*time.Second + length(20*time.Second))
	}
}
