package bench

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/test/internal/cluster"
)

// BenchmarkAdopt lets one of three edges, the home of 10,000 long-polling
// sessions, be killed, or drained, while something is published to all every two
// seconds: how many of them go on elsewhere, how soon, what is lost or comes again,
// and what the brokers have to do with it.
func BenchmarkAdopt(b *testing.B) {
	const sessions = 10_000
	for name, end := range map[string]func(*cluster.Process){
		"kill":  (*cluster.Process).Kill,
		"drain": func(p *cluster.Process) { p.Signal(b, syscall.SIGTERM) },
	} {
		b.Run(name, func(b *testing.B) {
			once(b, func() { adopt(b, sessions, end) })
		})
	}
}

func adopt(b *testing.B, sessions int, end func(*cluster.Process)) {
	b.Helper()
	c := cluster.Split(b, 3, 2, "--drain-timeout=60s")
	c.AddPresence(b)
	c.Settle(b)
	h := &herd{http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: sessions}}, over: make(chan struct{})}
	for _, edge := range c.Edges {
		h.edges = append(h.edges, "http://"+edge.HTTP+"/cometd")
	}
	var running sync.WaitGroup
	gate := make(chan struct{}, 64) // handshakes at a time
	for i := range sessions {
		p := &poller{herd: h, ack: i%2 == 0}
		h.pollers = append(h.pollers, p)
		running.Go(func() { p.run(gate) })
	}
	cluster.Eventually(b, 2*time.Minute, "all are subscribed", func() error {
		if n := int(h.subscribed.Load()); n < sessions {
			return fmt.Errorf("%d of %d", n, sessions)
		}
		return nil
	})
	running.Go(func() { h.publish(b, c.Brokers[0]) })

	const phase = 30 * time.Second
	before := h.spend(b, c.Brokers, phase)
	h.ended.Store(time.Now().UnixNano())
	end(c.Edges[0])
	after := h.spend(b, c.Brokers, phase)
	time.Sleep(phase / 2)
	close(h.over)
	h.http.CloseIdleConnections()
	running.Wait()
	h.report(b, before, after)
}

// herd is clients of edges.
type herd struct {
	edges      []string
	http       *http.Client
	pollers    []*poller
	subscribed atomic.Int64
	published  atomic.Int64
	ended      atomic.Int64 // when the edge was ended, in ns; 0: not yet
	over       chan struct{}
}

// spend returns how much processor time the brokers use in a time.
func (h *herd) spend(b *testing.B, brokers []*cluster.Process, d time.Duration) (used time.Duration) {
	b.Helper()
	begin := cpuSpentBy(b, brokers)
	time.Sleep(d)
	return cpuSpentBy(b, brokers) - begin
}

// publish publishes numbers until the herd is over.
func (h *herd) publish(b *testing.B, broker *cluster.Process) {
	b.Helper()
	backend := pubsub(b, broker)
	for {
		select {
		case <-h.over:
			return
		case <-time.After(2 * time.Second):
		}
		n := h.published.Add(1)
		_, err := backend.Publish(b.Context(), &pubsubv1.PublishRequest{
			Channel: "/bench/adopt", Data: []byte(strconv.FormatInt(n, 10)), IdempotencyKey: strconv.FormatInt(n, 10),
		})
		if err != nil {
			b.Error(err)
		}
	}
}

func (h *herd) report(b *testing.B, before, after time.Duration) {
	b.Helper()
	var took, back []time.Duration
	again, lost, twice, twiceWithAck, failed := 0, 0, 0, 0, 0
	perSecond := map[int64]int{}
	last := int(h.published.Load()) - 2 // what came last may be on its way
	for _, p := range h.pollers {
		again += p.shakes - 1
		if p.ack {
			twiceWithAck += p.twice
		} else {
			twice += p.twice
		}
		failed += p.failed
		lost += p.missing
		if p.seen != 0 && p.seen < last {
			lost += last - p.seen
		}
		if p.adopted > 0 {
			took = append(took, p.adopted)
			back = append(back, p.back)
			perSecond[int64(p.back/time.Second)]++
		}
	}
	slices.Sort(took)
	slices.Sort(back)
	b.ReportMetric(100*float64(len(took))/float64(len(h.pollers)), "%adopted")
	b.ReportMetric(float64(again), "handshakes-again")
	b.ReportMetric(float64(lost), "lost")
	b.ReportMetric(float64(twice), "came-twice")
	b.ReportMetric(float64(twiceWithAck), "came-twice-with-ack")
	b.ReportMetric(float64(failed), "5xx")
	if len(took) > 0 {
		b.ReportMetric(took[len(took)/2].Seconds()*1000, "adoption-p50-ms")
		b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "adoption-p99-ms")
		b.ReportMetric(back[len(back)-1].Seconds(), "all-back-s")
		most := 0
		for _, n := range perSecond {
			most = max(most, n)
		}
		b.ReportMetric(float64(most)*max(back[len(back)-1].Seconds(), 1)/float64(len(took)), "busiest-second-to-average")
	}
	b.ReportMetric(after.Seconds()/before.Seconds(), "brokers-cpu-ratio")
}

// poller is one long-polling client; what it notes is read once it has ended.
type poller struct {
	herd *herd
	ack  bool

	at      int // of edges
	id      string
	batch   string
	shakes  int
	seen    int // the last number
	missing int
	twice   int
	failed  int
	adopted time.Duration // what the first answer of another edge took
	back    time.Duration // when it came, since the edge was ended
}

func (p *poller) run(gate chan struct{}) {
	gate <- struct{}{}
	p.begin()
	<-gate
	p.herd.subscribed.Add(1)
	for again := false; !p.over(); {
		begun := time.Now()
		text, status, err := p.ask(p.connect(again))
		switch {
		case p.over():
			return
		case status >= http.StatusInternalServerError:
			p.failed++
		case err == nil && strings.Contains(text, "402:"):
			p.begin()
			again = false
			continue
		}
		if err != nil || status != http.StatusOK {
			again = true
			p.at++
			time.Sleep(100 * time.Millisecond)
			continue
		}
		again = false
		p.take(text, begun)
	}
}

func (p *poller) over() bool {
	select {
	case <-p.herd.over:
		return true
	default:
		return false
	}
}

// take notes what an answer brings, and goes elsewhere if it is sent away.
func (p *poller) take(text string, begun time.Time) {
	if _, rest, ok := strings.Cut(text, `"ack":`); ok {
		p.batch = rest[:strings.IndexAny(rest, ",}")]
	}
	for _, piece := range strings.Split(text, `"data":`)[1:] {
		n, err := strconv.Atoi(piece[:strings.IndexAny(piece, ",}")])
		switch {
		case err != nil:
		case p.seen > 0 && n <= p.seen:
			p.twice++
		default:
			if p.seen > 0 {
				p.missing += n - p.seen - 1
			}
			p.seen = n
		}
	}
	ended := p.herd.ended.Load()
	if p.at > 0 && p.adopted == 0 {
		p.adopted, p.back = time.Since(begun), time.Since(time.Unix(0, ended))
	}
	if _, rest, ok := strings.Cut(text, `"interval":`); ok && ended != 0 && p.at == 0 {
		ms, err := strconv.Atoi(rest[:strings.IndexAny(rest, ",}")])
		if err == nil && ms > 0 {
			p.at++
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
	}
}

// begin makes a session and subscribes, until both have worked.
func (p *poller) begin() {
	ext := ""
	if p.ack {
		ext = `,"ext":{"ack":true}`
	}
	for !p.over() {
		p.shakes++
		text, _, err := p.ask(`[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]` + ext + `}]`)
		if _, rest, ok := strings.Cut(text, `"clientId":"`); err == nil && ok {
			p.id, p.batch = rest[:strings.IndexByte(rest, '"')], "0"
			text, _, err = p.ask(`[{"channel":"/meta/subscribe","clientId":"` + p.id + `","subscription":"/bench/adopt"}]`)
			if err == nil && strings.Contains(text, `"successful":true`) {
				return
			}
		}
		time.Sleep(time.Second)
	}
}

func (p *poller) connect(again bool) string {
	m := `[{"channel":"/meta/connect","connectionType":"long-polling","clientId":"` + p.id + `"`
	if p.ack {
		m += `,"ext":{"ack":` + p.batch + `}`
	}
	if again {
		m += `,"advice":{"timeout":0}`
	}
	return m + "}]"
}

func (p *poller) ask(messages string) (text string, status int, err error) {
	resp, err := p.herd.http.Post(p.herd.edges[p.at%len(p.herd.edges)], "application/json", bytes.NewReader([]byte(messages)))
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return string(body), resp.StatusCode, err
}
