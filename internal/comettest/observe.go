package comettest

import (
	"context"
	"runtime"
	"strings"
	"time"

	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/rpc"
)

// Value is a gauge or counter of a node, summed up over its labels.
func (c *Cluster) Value(node, metric string) float64 {
	c.t.Helper()
	families, err := c.Node(node).Metrics.Gather()
	if err != nil {
		c.t.Fatalf("metrics of %s: %v", node, err)
	}
	sum, known := 0.0, false
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		known = true
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	if !known {
		c.t.Errorf("%s has no metric %s", node, metric)
	}
	return sum
}

// Sessions is how many sessions a presence node knows.
func (c *Cluster) Sessions(node string) int {
	c.t.Helper()
	pool := rpc.NewPool(c.Net.Dial("observer"))
	defer func() {
		if err := pool.Close(); err != nil {
			c.t.Error(err)
		}
	}()
	conn, err := pool.Conn(node + ":9090")
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := presencev1.NewPresenceServiceClient(conn).ListSessions(ctx, &presencev1.ListSessionsRequest{})
	if err != nil {
		c.t.Fatalf("sessions of %s: %v", node, err)
	}
	return len(answer.GetSessions())
}

// Goroutines is how many goroutines are in the caller's bubble.
func Goroutines() int {
	all := make([]byte, 1<<20)
	for {
		if n := runtime.Stack(all, true); n < len(all) {
			all = all[:n]
			break
		}
		all = make([]byte, 2*len(all))
	}
	// goroutine 7 [running, synctest bubble 3]:
	own, _, _ := strings.Cut(string(all), "\n")
	_, bubble, _ := strings.Cut(own, ", synctest bubble ")
	n := 0
	for line := range strings.Lines(string(all)) {
		if strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(line, ", synctest bubble "+bubble+"\n") {
			n++
		}
	}
	return n
}
