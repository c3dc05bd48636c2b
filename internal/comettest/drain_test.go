package comettest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
)

// TestDrainOfEdge drains an edge whose clients do what servers advise. They are
// not to ask it again and again; and what is published meanwhile reaches them, in
// the session that they have, though the edge is away for a while.
func TestDrainOfEdge(t *testing.T) {
	for _, edges := range [][]string{{"edge-0"}, {"edge-0", "edge-1"}} {
		for _, every := range []time.Duration{time.Hour, 100 * time.Millisecond} {
			t.Run(fmt.Sprintf("%d edges, messages every %v", len(edges), every), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { drainEdge(t, edges, every) })
			})
		}
	}
}

func drainEdge(t *testing.T, edges []string, every time.Duration) {
	c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 1, Presence: 1})
	c.Balanced(time.Minute)
	publishers := []*comettest.Publisher{c.Publish("backend", "/news/x", every)}
	var clients []*comettest.Client
	for i := range 24 {
		p := comettest.Profile{Name: fmt.Sprintf("client-%d", i), Ack: i%4 == 1, Edges: edges, Channels: []string{"/news/*"}}
		if i%4 == 3 {
			p.Transport = comettest.WebSocket
		}
		clients = append(clients, c.Connect(p))
	}
	time.Sleep(5 * time.Second)
	begin := time.Now()
	c.Stop("edge-0")
	took := time.Since(begin)
	if limit := 4500 * time.Millisecond; took > limit {
		t.Errorf("the drain took %v", took)
	}
	most, sum := 0, 0
	for _, client := range clients {
		n := len(client.Of(comettest.Away))
		most, sum = max(most, n), sum+n
	}
	t.Logf("the drain took %v; clients were sent away %d times at most, %.1f on average", took, most, float64(sum)/float64(len(clients)))
	if most > 6 {
		t.Errorf("a client was sent away %d times", most)
	}
	c.Start("edge-0")
	c.Ready(time.Minute)
	time.Sleep(10 * time.Second)
	settle(t, publishers)
	for _, client := range clients {
		if err := comettest.Check(client, publishers...); err != nil {
			t.Error(err)
		}
		if n := len(client.Of(comettest.Session)); n != 1 {
			t.Errorf("%s had %d sessions, want one", client.Name, n)
		}
		onceEach(t, client)
	}
}

// onceEach checks that a client got nothing twice.
func onceEach(t *testing.T, client *comettest.Client) {
	t.Helper()
	type event struct {
		channel string
		n       int
	}
	times := map[event]int{}
	for _, r := range client.Of(comettest.Event) {
		e := event{r.Channel, r.N}
		if times[e]++; times[e] == 2 {
			t.Errorf("%s: %d of %s came again at %s", client.Name, e.n, e.channel, r.At.Format("15:04:05.000"))
		}
	}
}
