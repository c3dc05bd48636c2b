// Package bench measures the built binary from outside. test/bench.sh runs it
// with a binary built without the race detector; docs/benchmarks.md says how to
// read the figures.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/test/internal/cluster"
)

// BenchmarkPublishStream is how many messages of 100 bytes one stream gets
// committed in a second, through a process that serves everything.
func BenchmarkPublishStream(b *testing.B) {
	p := cluster.Alone(b)
	stream, err := pubsub(b, p).PublishStream(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	data := []byte(`"` + strings.Repeat("x", 98) + `"`)
	done := make(chan error, 1)
	b.ResetTimer()
	go func() {
		for range b.N {
			answer, err := stream.Recv()
			if err == nil && answer.GetPublished() == nil {
				err = errors.New(answer.GetRefused().GetDetail())
			}
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range b.N {
		req := &pubsubv1.PublishStreamRequest{RequestId: uint64(i), Message: &pubsubv1.PublishRequest{
			Channel: "/bench/" + strconv.Itoa(i%64), Data: data,
		}}
		if err := stream.Send(req); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "publishes/s")
}

// BenchmarkPublishToDeliver is the time from the call of Publish by gRPC to the
// arrival at a client whose connect was held.
func BenchmarkPublishToDeliver(b *testing.B) {
	p := cluster.Alone(b)
	backend := pubsub(b, p)
	c := &client{url: "http://" + p.HTTP + "/cometd"}
	c.subscribe(b, "/latency")
	arrived := make(chan time.Time, 1)
	go func() {
		for {
			answer, err := c.connect()
			if err != nil {
				return // the process has ended
			}
			if strings.Contains(answer, `"/latency"`) {
				arrived <- time.Now()
			}
		}
	}()
	var took []time.Duration
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		if _, err := backend.Publish(context.Background(), &pubsubv1.PublishRequest{Channel: "/latency", Data: []byte("1")}); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-arrived).Sub(began))
		time.Sleep(time.Millisecond) // until the next connect is held
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

// BenchmarkIdle is what a process uses while it holds 1,000 connects and
// nothing is published, over 30 seconds.
func BenchmarkIdle(b *testing.B) {
	const clients = 1000
	p := cluster.Alone(b)
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	var wg sync.WaitGroup
	for i := range clients {
		c := &client{url: "http://" + p.HTTP + "/cometd", http: &http.Client{Transport: transport}}
		c.subscribe(b, "/idle/"+strconv.Itoa(i))
		wg.Go(func() {
			for {
				if _, err := c.connect(); err != nil {
					return // the process has ended
				}
			}
		})
	}
	time.Sleep(2 * time.Second)
	for b.Loop() {
		before := cpu(b, p.Pid())
		began := time.Now()
		time.Sleep(30 * time.Second)
		used := cpu(b, p.Pid()) - before
		b.ReportMetric(100*used.Seconds()/time.Since(began).Seconds(), "%core")
	}
	p.Kill()
	wg.Wait()
}

// cpu is how much processor time a process has used.
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	ticks := 0
	for _, field := range fields[11:13] { // utime, stime
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // Linux counts 100 a second
}

// pubsub returns a client of a process's public gRPC door.
func pubsub(b *testing.B, p *cluster.Process) pubsubv1.PubSubServiceClient {
	b.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return pubsubv1.NewPubSubServiceClient(conn)
}

// client is a Bayeux client with one session.
type client struct {
	url  string
	id   string
	http *http.Client
}

// subscribe makes the session and subscribes it.
func (c *client) subscribe(b *testing.B, channel string) {
	b.Helper()
	if c.http == nil {
		c.http = http.DefaultClient
	}
	answer, err := c.post(`[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]`)
	var replies []struct{ ClientID string }
	if err != nil || json.Unmarshal([]byte(answer), &replies) != nil || len(replies) != 1 {
		b.Fatalf("handshake: %v %s", err, answer)
	}
	c.id = replies[0].ClientID
	answer, err = c.post(fmt.Sprintf(`[{"channel":"/meta/subscribe","clientId":%q,"subscription":%q}]`, c.id, channel))
	if err != nil || !strings.Contains(answer, `"successful":true`) {
		b.Fatalf("subscribe: %v %s", err, answer)
	}
}

// connect polls once.
func (c *client) connect() (string, error) {
	return c.post(fmt.Sprintf(`[{"channel":"/meta/connect","clientId":%q,"connectionType":"long-polling"}]`, c.id))
}

func (c *client) post(body string) (string, error) {
	resp, err := c.http.Post(c.url, "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}
