// Package bench measures the built binary from outside. test/bench.sh runs it
// with a binary built without the race detector; docs/benchmarks.md says how to
// read the figures.
package bench

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/test/internal/client"
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
	c := client.Named("long-polling").New("/latency")
	if err := c.Open(context.Background(), client.Server{URL: "http://" + p.HTTP}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Cut)
	arrived := make(chan time.Time, 1)
	go func() {
		for {
			e, err := c.Next(context.Background())
			if err != nil {
				return // the process has ended
			}
			if e.Kind == client.Message {
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
