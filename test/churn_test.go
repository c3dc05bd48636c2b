package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
	"github.com/comet-push/comet/test/internal/cluster"
)

const (
	churners      = 48 // clients at a time
	churnChannels = 16
)

// TestChurn lets clients of all transports come, read, stop reading, leave,
// break off and come back, for 30 s or as long as SOAK says. Afterwards the
// process is as it was before: the same descriptors, about the same
// goroutines, and no more memory than after the first minute.
func TestChurn(t *testing.T) {
	lasts := 30 * time.Second
	soak := os.Getenv("SOAK")
	if soak != "" {
		var err error
		if lasts, err = time.ParseDuration(soak); err != nil {
			t.Fatalf("SOAK: %v", err)
		}
	}
	p := cluster.New(t, "churned", "all", "--config="+cluster.Config(t, cluster.Open), "--log.format=text", "--edge.jsonp",
		"--edge.heartbeat=1s", "--edge.poll-timeout=2s", "--edge.max-interval=2s")
	if soak != "" {
		p.Binary = cluster.Released(t) // memory is that of the released binary
	}
	p.Start(t)
	p.Ready(t, 30*time.Second)

	warm := newChurn(t, p)
	warm.run(3 * time.Second) // what is made once is made now
	before := settled(t, p)
	c := newChurn(t, p)
	end := time.Now().Add(lasts)
	c.run(min(lasts, time.Minute))
	first := c.memory()
	if rest := time.Until(end); rest > 0 {
		c.run(rest)
	}
	last := c.memory()
	c.report()
	cluster.Eventually(t, time.Minute, "all is as before", func() error {
		after := settled(t, p)
		if after.descriptors != before.descriptors || after.goroutines < before.goroutines-10 || after.goroutines > before.goroutines+10 {
			return fmt.Errorf("%+v, before %+v", after, before)
		}
		return nil
	})
	t.Logf("memory %d KB after the first minute, %d KB at the end: %.2f×", first>>10, last>>10, float64(last)/float64(first))
	if lasts > 2*time.Minute && float64(last) > 1.2*float64(first) {
		t.Errorf("memory has grown to %.2f× of that after the first minute", float64(last)/float64(first))
	}
}

// state is what a process has open.
type state struct{ descriptors, goroutines int }

// settled waits until no session and no reader is left, and looks.
func settled(t *testing.T, p *cluster.Process) state {
	t.Helper()
	cluster.Eventually(t, time.Minute, "everybody has left", func() error {
		for _, name := range []string{"comet_edge_sessions", "comet_edge_readers", "comet_edge_sockets", "comet_edge_connects_held"} {
			if n, err := p.Metric(name); err != nil || n != 0 {
				return fmt.Errorf("%s is %v, %w", name, n, err)
			}
		}
		return nil
	})
	http.DefaultClient.CloseIdleConnections() // but for the one that is opened next
	goroutines, err := p.Goroutines()
	if err != nil {
		t.Fatal(err)
	}
	descriptors, err := p.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	return state{descriptors, goroutines}
}

// churn is clients that come and go.
type churn struct {
	t *testing.T
	p *cluster.Process

	mu     sync.Mutex
	counts map[string]int
	fault  error // the first
}

func newChurn(t *testing.T, p *cluster.Process) *churn {
	t.Helper()
	return &churn{t: t, p: p, counts: map[string]int{}}
}

func (c *churn) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

func (c *churn) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == nil {
		c.fault = err
	}
}

// run lets clients come and go for a while.
func (c *churn) run(lasts time.Duration) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), lasts)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { c.publish(ctx) })
	for range churners {
		all.Go(func() {
			for ctx.Err() == nil {
				c.visit(ctx)
			}
		})
	}
	all.Wait()
	if c.fault != nil {
		c.t.Fatal(c.fault)
	}
}

// publish publishes numbered messages, now and then a large one.
func (c *churn) publish(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		filling := 100
		if n%50 == 0 {
			filling = 50_000
		}
		body := fmt.Sprintf(`{"channel":%q,"data":{"filling":%q}}`, churnChannel(n), strings.Repeat("x", filling))
		if status, reply, err := tryPost("http://"+c.p.Internal+"/v1/publish", "application/json", body); err != nil || status != http.StatusOK {
			c.failed(fmt.Errorf("publish: %d %s %w", status, reply, err))
			return
		}
	}
}

func churnChannel(n int) string { return fmt.Sprintf("/churn/%d", n%churnChannels) }

// visit is the life of one client.
func (c *churn) visit(ctx context.Context) {
	all := client.Transports()
	tr := all[rand.N(len(all))]
	kind := rand.N(4)
	one := tr.New(churnChannel(rand.N(churnChannels)))
	defer one.Close()
	one.SmallBuffers = kind == 3
	s := client.Server{URL: "http://" + c.p.HTTP}
	if err := c.open(one, s); err != nil {
		c.failed(fmt.Errorf("open by %s: %w", tr.Name, err))
		return
	}
	c.count(tr.Name)
	stay, cancel := context.WithTimeout(ctx, 100*time.Millisecond+rand.N(1500*time.Millisecond))
	defer cancel()
	if kind == 3 { // a slow reader
		<-stay.Done()
		one.Cut()
		c.count("stopped reading")
		return
	}
	c.read(stay, one, tr)
	switch kind {
	case 0:
		c.count("left")
	case 1:
		one.Cut()
		c.count("cut")
	case 2:
		one.Cut()
		if err := c.open(one, s); err != nil {
			c.failed(fmt.Errorf("come back by %s: %w", tr.Name, err))
			return
		}
		again, cancel := context.WithTimeout(ctx, rand.N(time.Second))
		defer cancel()
		c.read(again, one, tr)
		c.count("came back")
	}
}

func (c *churn) open(one *client.Client, s client.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return one.Open(ctx, s)
}

// read takes what comes; positions grow.
func (c *churn) read(ctx context.Context, one *client.Client, tr client.Transport) {
	last := uint64(0)
	for {
		e, err := one.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.failed(fmt.Errorf("%s ended with %w", tr.Name, err))
			return
		case e.Kind == client.End:
			c.count("sent away: " + e.Reason)
			return
		case e.Kind == client.Message && e.Position <= last && !tr.Bayeux:
			c.failed(fmt.Errorf("%s: position %d after %d", tr.Name, e.Position, last))
		case e.Kind == client.Message && !json.Valid(e.Data):
			c.failed(errors.New(tr.Name + ": data is not JSON"))
		case e.Kind == client.Message:
			last = e.Position
			c.count("messages")
		}
	}
}

// memory is the mean of some readings.
func (c *churn) memory() int {
	c.t.Helper()
	const readings = 10
	sum := 0
	for range readings {
		pss, err := c.p.PSS()
		if err != nil {
			c.t.Fatal(err)
		}
		sum += pss
		time.Sleep(200 * time.Millisecond)
	}
	return sum / readings
}

func (c *churn) report() {
	c.t.Helper()
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		c.t.Logf("%s: %d", what, c.counts[what])
	}
}
