package drill

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestTheDrillsSeeALoss loses acknowledged messages, for real: of a slot with one
// copy, whose only broker is killed while nobody follows. What the drills check
// with must tell.
func TestTheDrillsSeeALoss(t *testing.T) {
	const channel = "/drill/lost"
	c := cluster.Split(t, 1, 1, "--broker.replicas=1")
	broker, edge := c.Brokers[0], c.Edges[0]
	d, err := newDoor(&node{Process: *broker})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	l := newLedger()
	a := l.account("sse")
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan struct{})
	var once sync.Once
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { follow(ctx, a, "sse", channel, edge.HTTP, func() { once.Do(func() { close(opened) }) }) })
	<-opened

	w := newWay(l, []*door{d}, 0, []string{channel}, time.Second)
	n := 0
	publish := func(count int) {
		for range count {
			n++
			w.insist(ctx, l.due(channel, n, time.Now()), unary)
		}
		l.finish()
	}
	publish(10)
	if err := within(ctx, ready, l.behind); err != nil {
		t.Fatal(err)
	}
	if _, faults := l.take(); len(faults) > 0 {
		t.Fatalf("before anything was lost: %v", faults)
	}
	edge.Kill()
	publish(10)
	if err := l.behind(); err == nil {
		t.Error("ten messages were acknowledged and not seen, and nobody says so")
	}
	broker.Kill()
	broker.Start(t)
	broker.Ready(t, ready)
	edge.Start(t)
	edge.Ready(t, ready)
	err = within(ctx, ready, func() error { // what comes before the follower is back is not shown again
		publish(1)
		sleep(ctx, 200*time.Millisecond)
		return l.behind()
	})
	if err != nil {
		t.Fatal(err)
	}
	_, faults := l.take()
	told := strings.Join(faults, "\n")
	t.Log(told)
	for _, want := range []string{"history is gone", "after 10 (", "a gap"} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not among the faults", want)
		}
	}
}
