package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/test/internal/cluster"
)

// BenchmarkAckExact sends 1,000 long-polling sessions with the ack extension ten
// messages a second each, all of one channel, with what they are sent recorded at
// two presence processes before it is written (kill), and without (handover): the
// time from a publish to a client, the processor time of edges and presence, and
// what edges tell presence.
func BenchmarkAckExact(b *testing.B) {
	for _, exact := range []string{"handover", "kill"} {
		b.Run(exact, func(b *testing.B) {
			once(b, func() { acknowledged(b, exact, 1000) })
		})
	}
}

func acknowledged(b *testing.B, exact string, sessions int) {
	b.Helper()
	c := cluster.Split(b, 2, 1, "--edge.ack-exact="+exact)
	c.AddPresence(b)
	c.Settle(b)
	h := &herd{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: sessions}}, over: make(chan struct{})}
	for _, edge := range c.Edges {
		h.edges = append(h.edges, "http://"+edge.HTTP+"/cometd")
	}
	var mu sync.Mutex
	var took []time.Duration
	var running sync.WaitGroup
	gate := make(chan struct{}, 64)
	for i := range sessions {
		p := &poller{herd: h, ack: true, at: i % len(h.edges)}
		running.Go(func() {
			own := p.follow(gate)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
		})
	}
	cluster.Eventually(b, 2*time.Minute, "all are subscribed", func() error {
		if n := int(h.subscribed.Load()); n < sessions {
			return fmt.Errorf("%d of %d", n, sessions)
		}
		return nil
	})
	time.Sleep(8 * time.Second) // until vectors say what they have

	servers := slices.Concat(c.Edges, c.Presence)
	told := func() (sum float64) {
		for _, p := range c.Edges {
			each, err := p.Metric("comet_edge_report_bytes_total")
			if err != nil {
				b.Fatal(err)
			}
			sum += each
		}
		return sum
	}
	const span, every = 15 * time.Second, 100 * time.Millisecond
	cpuBefore, toldBefore := cpuSpentBy(b, servers), told()
	backend := pubsub(b, c.Brokers[0])
	tick := time.NewTicker(every)
	for begun := time.Now(); time.Since(begun) < span; <-tick.C {
		_, err := backend.Publish(b.Context(), &pubsubv1.PublishRequest{
			Channel: "/bench/adopt", Data: []byte(strconv.FormatInt(time.Now().UnixNano(), 10)),
		})
		if err != nil {
			b.Error(err)
		}
	}
	tick.Stop()
	time.Sleep(time.Second)
	cost, bytes := cpuSpentBy(b, servers)-cpuBefore, told()-toldBefore
	close(h.over)
	h.http.CloseIdleConnections()
	running.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		b.Fatal("nothing came")
	}
	b.ReportMetric(float64(len(took))/span.Seconds(), "deliveries/s")
	b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(float64(cost.Microseconds())/float64(len(took)), "cpu-us/delivery")
	b.ReportMetric(bytes/float64(len(took)), "reported-B/delivery")
}

// follow connects again and again, and returns how old what came was.
func (p *poller) follow(gate chan struct{}) (took []time.Duration) {
	gate <- struct{}{}
	p.begin()
	<-gate
	p.herd.subscribed.Add(1)
	for !p.over() {
		text, status, err := p.ask(p.connect(false))
		if err != nil || status != http.StatusOK {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		var messages []struct {
			Data int64
			Ext  struct{ Ack json.RawMessage }
		}
		if json.Unmarshal([]byte(text), &messages) != nil {
			continue
		}
		for _, m := range messages {
			if m.Data != 0 {
				took = append(took, time.Since(time.Unix(0, m.Data)))
			}
			if ack := strings.Trim(string(m.Ext.Ack), `"`); ack != "" {
				p.batch = ack
			}
		}
	}
	return took
}
