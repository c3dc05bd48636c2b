package bench

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// BenchmarkRelay has sessions answer connects at once, at their home and through
// the other edges in turn, so that none moves: what a relay adds, in time to the
// client and in processor time of all edges. Then the home is killed, and once the
// others know that each session comes to one of them: what an adoption takes
// when there is no storm.
func BenchmarkRelay(b *testing.B) {
	once(b, func() { relayed(b, 1000) })
}

func relayed(b *testing.B, sessions int) {
	b.Helper()
	c := cluster.Split(b, 3, 1)
	c.Settle(b)
	h := &herd{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, over: make(chan struct{})}
	for _, edge := range c.Edges {
		h.edges = append(h.edges, "http://"+edge.HTTP+"/cometd")
	}
	for i := range sessions {
		p := &poller{herd: h, ack: i%2 == 0}
		p.begin()
		if p.shakes > 1 {
			b.Fatal("a handshake failed")
		}
		h.pollers = append(h.pollers, p)
	}

	home := h.exchange(b, c.Edges, func(int) int { return 0 })
	front := h.exchange(b, c.Edges, func(n int) int { return 1 + n%2 })
	b.ReportMetric(float64(home.middle.Microseconds()), "home-p50-us")
	b.ReportMetric(float64(front.middle.Microseconds()), "relay-p50-us")
	b.ReportMetric(float64(home.late.Microseconds()), "home-p99-us")
	b.ReportMetric(float64(front.late.Microseconds()), "relay-p99-us")
	b.ReportMetric(float64(home.each.Microseconds()), "home-cpu-us")
	b.ReportMetric(float64(front.each.Microseconds()), "relay-cpu-us")

	c.Edges[0].Kill()
	time.Sleep(6 * time.Second) // its lease ends
	h.adoptEach(b)
	close(h.over)
}

// spent is what requests took.
type spent struct{ middle, late, each time.Duration }

// exchange asks for all sessions in turn, 4 at a time, for 5 s; at says which edge
// is asked for the nth request of a session.
func (h *herd) exchange(b *testing.B, edges []*cluster.Process, at func(n int) int) spent {
	b.Helper()
	const workers, span = 4, 5 * time.Second
	var mu sync.Mutex
	var took []time.Duration
	var failed atomic.Int64
	before, begun := cpuSpentBy(b, edges), time.Now()
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() {
			var own []time.Duration
			for n := 0; time.Since(begun) < span; n++ {
				for i := w; i < len(h.pollers) && time.Since(begun) < span; i += workers {
					p := h.pollers[i]
					p.at = at(n)
					asked := time.Now()
					text, status, err := p.ask(p.connect(true))
					if err != nil || status != http.StatusOK {
						failed.Add(1)
						continue
					}
					own = append(own, time.Since(asked))
					p.take(text, asked)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
		})
	}
	running.Wait()
	cost := cpuSpentBy(b, edges) - before
	if n := failed.Load(); n > 0 || len(took) == 0 {
		b.Fatalf("%d of %d requests failed", n, len(took))
	}
	slices.Sort(took)
	return spent{took[len(took)/2], took[len(took)*99/100], cost / time.Duration(len(took))}
}

// adoptEach has every session come to another edge, one every 10 ms.
func (h *herd) adoptEach(b *testing.B) {
	b.Helper()
	var took []time.Duration
	failed := 0
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i, p := range h.pollers {
		<-tick.C
		p.at = 1 + i%2
		asked := time.Now()
		text, status, err := p.ask(p.connect(true))
		if err != nil || status != http.StatusOK || !strings.Contains(text, `"successful":true`) {
			failed++
			continue
		}
		took = append(took, time.Since(asked))
	}
	if len(took) == 0 {
		b.Fatal("no session was adopted")
	}
	slices.Sort(took)
	b.ReportMetric(100*float64(len(took))/float64(len(took)+failed), "%adopted")
	b.ReportMetric(milliseconds(took[len(took)/2]), "adoption-p50-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "adoption-p99-ms")
}
