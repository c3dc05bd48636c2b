package test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/test/internal/cluster"
)

// outage is how long etcd stays away.
const outage = 30 * time.Second

// TestEtcdOutage stops etcd for half a minute under traffic: no publish fails, no
// session is lost. A broker killed meanwhile is replaced soon after etcd's
// return: three leases later at the earliest (CORRECTNESS rule 14).
func TestEtcdOutage(t *testing.T) {
	t.Parallel()
	c := cluster.Split(t, 1, 3)
	id := handshake(t, c.Edges[0])
	channels := make([]string, 32)
	for i := range channels {
		channels[i] = fmt.Sprintf("/outage/%d", i)
	}
	subscribe(t, c.Edges[0], id, "/outage/*")
	poll := pollFor(t, c.Edges[0], id)

	before := traffic(t, c.Brokers[0], channels, 15*time.Second)
	c.Etcd.Stop()
	gone := time.Now()
	during := traffic(t, c.Brokers[0], channels, outage-10*time.Second)
	for _, r := range []rates{before, during} {
		if len(r.errs) > 0 {
			t.Errorf("%d publishes failed, the first: %v", len(r.errs), r.errs[0])
		}
	}
	t.Logf("publish p99 %v before the outage, %v in it: %.2f×", before.p99, during.p99, float64(during.p99)/float64(before.p99))
	if lost := poll.lost(); lost != "" {
		t.Errorf("the session was lost in the outage: %s", lost)
	}
	cluster.Eventually(t, 5*time.Second, "everything published arrived", func() error {
		return poll.has(before.sent + during.sent)
	})

	c.Brokers[2].Kill()
	time.Sleep(time.Until(gone.Add(outage)))
	c.Etcd.Start(t)
	back := time.Now()
	cluster.Eventually(t, 30*time.Second, "every channel takes publishes", func() error {
		return publishAll(t, c.Brokers[0], channels)
	})
	took := time.Since(back)
	t.Logf("the killed broker's slots were served again %v after etcd's return", took.Round(time.Millisecond))
	if most := 3*membership.DefaultLease + 4*time.Second; took > most {
		t.Errorf("replacing the killed broker took %v, want at most %v", took, most)
	}
	if lost := poll.lost(); lost != "" {
		t.Errorf("the session was lost after the outage: %s", lost)
	}
}

// rates is what publishing was like for a while.
type rates struct {
	sent int
	p99  time.Duration
	errs []error
}

// traffic publishes 100 messages a second, round robin over the channels.
func traffic(t testing.TB, broker *cluster.Process, channels []string, d time.Duration) rates {
	t.Helper()
	client := pubsub(t, broker)
	var (
		mu   sync.Mutex
		took []time.Duration
		errs []error
		wg   sync.WaitGroup
	)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	sent := 0
	for end := time.Now().Add(d); time.Now().Before(end); sent++ {
		<-tick.C
		channel := channels[sent%len(channels)]
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			began := time.Now()
			_, err := client.Publish(ctx, &pubsubv1.PublishRequest{Channel: channel, Data: []byte(`{"n":1}`)})
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			if err != nil {
				errs = append(errs, fmt.Errorf("publish to %s: %w", channel, err))
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return rates{sent: sent, p99: took[len(took)*99/100], errs: errs}
}

// publishAll publishes once to every channel, all at a time.
func publishAll(t testing.TB, broker *cluster.Process, channels []string) error {
	t.Helper()
	client := pubsub(t, broker)
	errs := make(chan error, len(channels))
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, channel := range channels {
		go func() {
			_, err := client.Publish(ctx, &pubsubv1.PublishRequest{Channel: channel, Data: []byte(`{"after":true}`)})
			errs <- err
		}()
	}
	var first error
	for range channels {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// pubsub returns a client of a broker's public door.
func pubsub(t testing.TB, p *cluster.Process) pubsubv1.PubSubServiceClient {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return pubsubv1.NewPubSubServiceClient(conn)
}

// poller is a Bayeux client that connects for ever.
type poller struct {
	mu     sync.Mutex
	events int
	failed string
}

// pollFor connects again and again until the test ends.
func pollFor(t testing.TB, edge *cluster.Process, id string) *poller {
	t.Helper()
	p := &poller{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				answer, err := tryConnect(edge, id)
				if err != nil {
					return // the edge has ended, and with it the test
				}
				p.take(answer)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		edge.Kill() // ends a connect that is held
		<-done
	})
	return p
}

// take counts the events of an answer, and remembers a failed reply.
func (p *poller) take(answer string) {
	var messages []struct {
		Channel    string
		Successful *bool
		Error      string
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.Unmarshal([]byte(answer), &messages); err != nil {
		p.failed = answer
		return
	}
	for _, m := range messages {
		switch {
		case strings.HasPrefix(m.Channel, "/meta/"):
			if m.Successful == nil || !*m.Successful {
				p.failed = answer
			}
		default:
			p.events++
		}
	}
}

// lost returns the answer that ended the session, if any.
func (p *poller) lost() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// has returns an error until so many events have come.
func (p *poller) has(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.events < n {
		return fmt.Errorf("%d of %d events", p.events, n)
	}
	return nil
}
