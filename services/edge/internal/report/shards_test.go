package report_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/shard"
)

// checkShards compares what the node knows with the sessions of some shards,
// and how often each was synced, a little later.
func (w *world) checkShards(synced map[shard.PresenceShard]int, held ...shard.PresenceShard) {
	w.t.Helper()
	w.wait()
	own := map[shard.PresenceShard]bool{}
	for _, n := range held {
		own[n] = true
	}
	want := w.sessions.in(own)
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	for id := range w.node.known { // a holder forgets what it does not hold
		if !own[shard.OfSession(id)] {
			delete(w.node.known, id)
		}
	}
	if diff := cmp.Diff(want, w.node.known); diff != "" {
		w.t.Errorf("the node knows something else (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(synced, w.node.shards); diff != "" {
		w.t.Errorf("shards were synced otherwise (-want +got):\n%s", diff)
	}
}

func (w *world) add(ids ...string) {
	for _, id := range ids {
		w.sessions.set(id, "/a")
		w.reporter.Changed(id)
	}
}

// inShard returns ids of sessions of a shard.
func inShard(n shard.PresenceShard, count int) (ids []string) {
	for i := 0; len(ids) < count; i++ {
		if id := fmt.Sprint("x", i); shard.OfSession(id) == n {
			ids = append(ids, id)
		}
	}
	return ids
}

// TestShards has a node hold shards, one after the other: it is told of these
// alone, and of each from the beginning when it holds it anew.
func TestShards(t *testing.T) {
	inWorld(t, func(w *world) {
		for n := range shard.PresenceShard(shard.PresenceShards) {
			if n > 1 {
				w.hold(n, "presence-1@p1", "")
			}
		}
		w.wait()
		w.node.mu.Lock()
		w.node.shards = map[shard.PresenceShard]int{}
		w.node.mu.Unlock()
		zero, one, two := inShard(0, 600), inShard(1, 3), inShard(2, 3)
		w.add(zero[:599]...)
		w.add(one[:2]...)
		w.add(two[:2]...)
		w.checkShards(map[shard.PresenceShard]int{}, 0, 1)

		w.hold(2, "presence-1@p1", self)
		w.checkShards(map[shard.PresenceShard]int{2: 1}, 0, 1, 2)
		w.add(zero[599], one[2], two[2])
		w.checkShards(map[shard.PresenceShard]int{2: 1}, 0, 1, 2)

		w.hold(2, self, "presence-1@p1") // it held that before
		w.hold(0, "presence-1@p1", "")
		w.checkShards(map[shard.PresenceShard]int{2: 1}, 1, 2)
		batches := w.node.batches
		w.sessions.drop(zero[0])
		w.reporter.Gone(zero[0], gone("expired"))
		w.add(zero[1])
		w.checkShards(map[shard.PresenceShard]int{2: 1}, 1, 2)
		if w.node.batches != batches {
			t.Error("the node was told of a shard that it does not hold")
		}

		w.hold(0, self, "")
		w.checkShards(map[shard.PresenceShard]int{0: 1, 2: 1}, 0, 1, 2)
		if w.node.streams != 1 {
			t.Errorf("%d streams", w.node.streams)
		}
	})
}

// TestEndsSayWhose wants the end of a session to be told with its generation,
// and one that came back to be told after it.
func TestEndsSayWhose(t *testing.T) {
	inWorld(t, func(w *world) {
		w.add("a", "b")
		w.check()
		w.reporter.Gone("a", &edgev1.SessionGone{Reason: "moved", Generation: &edgev1.Generation{Epoch: 3, Count: 7}})
		w.reporter.Changed("a") // it was adopted again
		w.sessions.drop("b")
		w.reporter.Gone("b", gone("expired"))
		w.check()
		if g := w.node.gone["a"].GetGeneration(); g.GetEpoch() != 3 || g.GetCount() != 7 {
			t.Errorf("a ended with generation %v", g)
		}
	})
}

// TestSuperseded hands on what presence refuses.
func TestSuperseded(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check()
		w.node.mu.Lock()
		w.node.refused = []*edgev1.Superseded{
			{Session: "a", Generation: &edgev1.Generation{Epoch: 2, Count: 5}, Home: "edge-1@e1"},
			{Session: "b"},
		}
		w.node.mu.Unlock()
		w.add("a", "b")
		w.check()
		if got, want := w.sessions.superseded, []string{"a 2.5 edge-1@e1", "b 0.0 "}; !slices.Equal(got, want) {
			t.Errorf("superseded are %q, want %q", got, want)
		}
	})
}

// TestVectors follow what was marked before, once a second while they change.
func TestVectors(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check()
		time.Sleep(4750 * time.Millisecond) // shortly before a second is over, sooner than what is marked then is due
		if len(w.node.vectors) > 0 {
			t.Errorf("%d vectors, though there is none", len(w.node.vectors))
		}
		var ids []string
		for i := range 5 {
			for j := range 700 {
				ids = append(ids, fmt.Sprint(i, "-", j))
			}
			w.add(ids[i*700:]...)
			w.sessions.mu.Lock()
			w.sessions.vector = []uint64{uint64(len(ids)), 7}
			w.sessions.mu.Unlock()
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Second)
		w.wait()
		w.node.mu.Lock()
		defer w.node.mu.Unlock()
		if n := len(w.node.vectors); n < 4 || n > 6 {
			t.Errorf("%d vectors in 5 s", n)
		}
		for i, v := range w.node.vectors {
			if v[0] > uint64(w.node.seen[i]) {
				t.Errorf("vector %d came when %d sessions were known", v[0], w.node.seen[i])
			}
		}
		if last := w.node.vectors[len(w.node.vectors)-1]; last[0] != uint64(len(ids)) {
			t.Errorf("the last vector is %v", last)
		}
	})
}
