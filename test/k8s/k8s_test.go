//go:build k8s

package k8s

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestKubernetes deploys, runs the CometD client's scenarios through the edge
// service, and restarts edges and brokers under traffic.
func TestKubernetes(t *testing.T) {
	deploy(t)
	edge := address(t, "edge", 8080)
	rest := address(t, "broker", 8081)

	t.Run("scenarios", func(t *testing.T) {
		cmd := exec.Command("node", "../clients/run.mjs", "--client", "cometd",
			"--url", "http://"+edge+"/cometd", "--rest", "http://"+rest)
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
	})
	for _, what := range []string{"statefulset/broker", "deployment/edge"} {
		t.Run("restart "+what, func(t *testing.T) { restart(t, what, edge, rest) })
	}
}

// restart restarts a workload at 50 publishes/s and checks that every publish
// is acknowledged within three tries, and that the client sees every message
// acknowledged after a successful subscribe, or a resync naming the channel.
func restart(t *testing.T, what, edge, rest string) {
	channel := "/restart/" + fmt.Sprint(time.Now().UnixNano())
	w := watch(t, edge, channel)
	cluster.Eventually(t, 30*time.Second, "subscribed", func() error {
		if w.subscribes() == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	p := publish(t, rest, channel)
	began := time.Now()
	kubectl(t, 20*time.Second, "-n", namespace, "rollout", "restart", what)
	rollout(t, what)
	t.Logf("restart of %s took %v", what, time.Since(began).Round(time.Second))
	time.Sleep(5 * time.Second) // traffic goes on a little after the rollout
	acked := p.stop()
	cluster.Eventually(t, 20*time.Second, "the last message", func() error { return w.complete(acked) })
	t.Logf("%d published, worst needed %d tries, %d seen, %d subscribes, %d resyncs",
		len(acked), p.worst, w.count(), w.subscribes(), w.resyncs())
}

// publisher publishes numbers to a channel, 50 a second.
type publisher struct {
	t             *testing.T
	rest, channel string
	cancel        context.CancelFunc
	done          chan struct{}

	mu    sync.Mutex
	wg    sync.WaitGroup
	acked map[int]time.Time // number → when it was acknowledged
	worst int
}

func publish(t *testing.T, rest, channel string) *publisher {
	ctx, cancel := context.WithCancel(context.Background())
	p := &publisher{t: t, rest: rest, channel: channel, cancel: cancel, done: make(chan struct{}), acked: map[int]time.Time{}}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.wg.Go(func() { p.one(n) })
			}
		}
	}()
	return p
}

// one publishes one number in at most three tries.
func (p *publisher) one(n int) {
	body := fmt.Sprintf(`{"channel":%q,"data":{"n":%d},"idempotencyKey":"k%d"}`, p.channel, n, n)
	var last error
	for try := 1; try <= 3; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		last = post(ctx, "http://"+p.rest+"/v1/publish", body)
		cancel()
		if last == nil {
			p.mu.Lock()
			p.acked[n] = time.Now()
			p.worst = max(p.worst, try)
			p.mu.Unlock()
			return
		}
		time.Sleep(500 * time.Millisecond) // what a caller's back-off does
	}
	p.t.Errorf("publish %d was not acknowledged in 3 tries: %v", n, last)
}

// stop ends the publishing and returns what was acknowledged, and when.
func (p *publisher) stop() map[int]time.Time {
	p.cancel()
	<-p.done
	p.wg.Wait()
	return p.acked
}

func post(ctx context.Context, url, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Message string }
		_ = json.NewDecoder(resp.Body).Decode(&problem) // only for the error's text
		return fmt.Errorf("%s: %s", resp.Status, problem.Message)
	}
	return nil
}

// event is a line of watch.mjs.
type event struct {
	Event string `json:"event"` // subscribed, message, resync
	At    int64  `json:"at"`    // ms since 1970
	N     int    `json:"n"`
}

// watcher is a CometD client that subscribes after every handshake.
type watcher struct {
	mu     sync.Mutex
	events []event
}

func watch(t *testing.T, edge, channel string) *watcher {
	w := &watcher{}
	in := lines(t, "node", "../clients/watch.mjs", "--url", "http://"+edge+"/cometd", "--channel", channel)
	go func() {
		for line := range in {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil {
				w.mu.Lock()
				w.events = append(w.events, e)
				w.mu.Unlock()
			}
		}
	}()
	return w
}

func (w *watcher) number(kind string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e.Event == kind {
			n++
		}
	}
	return n
}

func (w *watcher) subscribes() int { return w.number("subscribed") }
func (w *watcher) resyncs() int    { return w.number("resync") }
func (w *watcher) count() int      { return w.number("message") }

// complete returns an error for a message that was acknowledged after the last
// subscribe or resync and not seen, or that an earlier subscription skipped:
// acknowledged after its start or its last resync, older than something it
// brought, and not seen.
func (w *watcher) complete(acked map[int]time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen, since, highest := map[int]bool{}, int64(0), 0
	for _, e := range w.events {
		switch e.Event {
		case "subscribed":
			if err := missing(acked, seen, since, highest); err != nil {
				return err
			}
			since, highest = e.At, 0
		case "resync":
			since, highest = e.At, 0
		case "message":
			seen[e.N], highest = true, max(highest, e.N)
		}
	}
	last := 0
	for n := range acked {
		last = max(last, n)
	}
	return missing(acked, seen, since, last)
}

// missing returns an error for a message up to the given one that was
// acknowledged after the given time and not seen.
func missing(acked map[int]time.Time, seen map[int]bool, since int64, upTo int) error {
	if since == 0 {
		return nil
	}
	for n, at := range acked {
		if n <= upTo && at.UnixMilli() > since+50 && !seen[n] {
			return fmt.Errorf("message %d, acknowledged %v after the subscribe or resync, was not seen",
				n, at.Sub(time.UnixMilli(since)))
		}
	}
	return nil
}
