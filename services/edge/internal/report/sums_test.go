package report_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/shard"
)

func (s *sessions) Sums(shards []shard.PresenceShard) map[shard.PresenceShard]shard.Sum {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sums(s.of, shards)
}

func sums(sessions map[string][]string, shards []shard.PresenceShard) map[shard.PresenceShard]shard.Sum {
	all := map[shard.PresenceShard]shard.Sum{}
	for _, n := range shards {
		all[n] = shard.Sum{}
	}
	for id, channels := range sessions {
		if sum, asked := all[shard.OfSession(id)]; asked {
			sum.Add(id, 1, 1, slices.Values(channels))
			all[shard.OfSession(id)] = sum
		}
	}
	return all
}

// startComparing has the node look at what edges say that they have.
func (n *node) startComparing() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.compares = true
}

// compare looks at what an edge says that it has. The node is locked.
func (n *node) compare(list []*edgev1.ShardSum) {
	for _, m := range list {
		s := shard.PresenceShard(m.GetShard())
		n.summed[s]++
		if sums(n.known, []shard.PresenceShard{s})[s] != (shard.Sum{Sessions: m.GetSessions(), Hash: m.GetHash()}) {
			n.differ++
		}
	}
}

// TestSums changes sessions all the time: what shards sum up to is never said
// before the node knows of it, and is said of all of them now and then.
func TestSums(t *testing.T) {
	inWorld(t, func(w *world) {
		w.node.startComparing()
		random := rand.New(rand.NewPCG(1, 2))
		for begun := time.Now(); time.Since(begun) < 3*time.Minute; {
			id := fmt.Sprint("s", random.IntN(300))
			if random.IntN(3) == 0 {
				w.sessions.drop(id)
				w.reporter.Gone(id, gone("disconnect"))
			} else {
				w.sessions.set(id, fmt.Sprint("/", random.IntN(5)))
				w.reporter.Changed(id)
			}
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
		}
		w.check()
		w.node.mu.Lock()
		defer w.node.mu.Unlock()
		if len(w.node.summed) != shard.PresenceShards || w.node.differ > 0 {
			t.Errorf("%d shards were summed up, %d sums differ", len(w.node.summed), w.node.differ)
		}
	})
}

// A change that is lost shows.
func TestSumsDiffer(t *testing.T) {
	inWorld(t, func(w *world) {
		w.node.startComparing()
		for i := range 300 {
			w.add(fmt.Sprint("s", i))
		}
		w.check()
		w.node.mu.Lock()
		delete(w.node.known, "s7")
		w.node.mu.Unlock()
		time.Sleep(70 * time.Second)
		synctest.Wait()
		w.node.mu.Lock()
		defer w.node.mu.Unlock()
		if w.node.differ != 1 {
			t.Errorf("%d sums differ, want one", w.node.differ)
		}
	})
}
