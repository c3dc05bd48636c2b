package comettest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
)

var (
	seeds = flag.Int("seeds", 1, "how many random histories TestChaos plays")
	seed  = flag.Uint64("seed", 1, "the first of them")
)

// TestChaos plays random faults, two minutes of them, and checks what every
// client was told. A failure names its seed: run it with -seeds=1 -seed=N.
func TestChaos(t *testing.T) {
	for s := *seed; s < *seed+uint64(*seeds); s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(s, s))) })
		})
	}
}

func chaos(t *testing.T, random *rand.Rand) {
	c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 3, Presence: 1})
	c.Balanced(time.Minute)
	var channels []string
	var publishers []*comettest.Publisher
	for i := range 8 {
		channels = append(channels, fmt.Sprintf("/chaos/%d", i))
		every := time.Duration(20+random.IntN(500)) * time.Millisecond
		publishers = append(publishers, c.Publish("backend", channels[i], every))
	}
	clients := []*comettest.Client{
		c.Client("literal-0", "edge-0", channels...), c.Client("deep-0", "edge-0", "/chaos/**"),
		c.Client("flat-1", "edge-1", "/chaos/*"), c.Client("some-1", "edge-1", channels[:3]...),
	}
	clients = append(clients, mixed(c, "edge-0", channels[0], "/chaos/**")...)
	clients = append(clients, mixed(c, "edge-1", channels[1], channels[2:5]...)...)
	restarts := map[string]int{} // of edges
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		time.Sleep(time.Duration(random.IntN(6000)) * time.Millisecond)
		fault(t, c, random, restarts)
	}
	for _, a := range hosts() {
		for _, b := range hosts() {
			c.Net.Heal(a, b)
			c.Net.Delay(a, b, 0)
		}
	}
	c.Ready(2 * time.Minute)
	time.Sleep(20 * time.Second)
	settle(t, publishers)
	for _, client := range clients {
		if err := comettest.Check(client, publishers...); err != nil {
			t.Error(err)
		}
		edge := "edge-" + client.Name[len(client.Name)-1:]
		if n := len(client.Of(comettest.Session)); n > 1+restarts[edge]+len(client.Of(comettest.Refused)) {
			t.Errorf("%s had %d sessions, though %s restarted only %d times", client.Name, n, edge, restarts[edge])
		}
		t.Logf("%s: %d events, %d resyncs, %d sessions", client.Name, len(client.Of(comettest.Event)),
			len(client.Of(comettest.Resync)), len(client.Of(comettest.Session)))
	}
}

func hosts() []string {
	return []string{"edge-0", "edge-1", "broker-0", "broker-1", "broker-2", "presence-0"}
}

// fault breaks something and, mostly, mends it a little later.
func fault(t *testing.T, c *comettest.Cluster, random *rand.Rand, restarts map[string]int) {
	any := func(of string, n int) string { return fmt.Sprintf("%s-%d", of, random.IntN(n)) }
	broker, from := any("broker", 3), any("edge", 2)
	if random.IntN(4) == 0 {
		from = any("broker", 3)
	}
	length := time.Duration(500+random.IntN(15_000)) * time.Millisecond
	switch kind := random.IntN(10); kind {
	case 0, 1:
		t.Logf("%v: %s and %s apart for %v", time.Now(), from, broker, length)
		c.Net.Partition(from, broker)
		time.AfterFunc(length, func() { c.Net.Heal(from, broker) })
	case 2:
		t.Logf("%v: %s and %s cut", time.Now(), from, broker)
		c.Net.Cut(from, broker)
	case 3:
		t.Logf("%v: %s and %s slow", time.Now(), from, broker)
		c.Net.Delay(from, broker, time.Duration(random.IntN(300))*time.Millisecond)
	case 4:
		t.Logf("%v: no store for %v", time.Now(), length)
		c.Store.Disconnect(true)
		time.Sleep(length)
		c.Store.Disconnect(false)
	case 5:
		t.Logf("%v: %s restarts", time.Now(), broker)
		c.Stop(broker)
		c.Start(broker)
	case 6:
		t.Logf("%v: %s crashes for %v", time.Now(), broker, length)
		c.Crash(broker)
		time.Sleep(length)
		c.Start(broker)
	case 7, 8:
		t.Logf("%v: %s does not reach the store for %v", time.Now(), from, length)
		d := c.Node(from).Directory
		d.Disconnect(true)
		time.AfterFunc(length, func() { d.Disconnect(false) })
	case 9:
		edge := any("edge", 2)
		t.Logf("%v: %s restarts", time.Now(), edge)
		restarts[edge]++
		c.Stop(edge)
		c.Start(edge)
	}
}
