package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/shard"
)

var payload = []byte(`{"symbol":"ACME","bid":12345678901234567,"ask":12345678901234570,"at":"2026-01-01T00:00:00Z"}`)

// BenchmarkPublishStream publishes over gRPC in memory, 1,000 in flight, to the
// public door of one broker, which forwards to all.
func BenchmarkPublishStream(b *testing.B) {
	for _, copies := range []int{1, 2, 3} {
		for _, channels := range []int{1, 256} {
			b.Run(fmt.Sprintf("copies=%d/channels=%d", copies, channels), func(b *testing.B) {
				benchmarkPublishStream(b, copies, channels)
			})
		}
	}
}

func benchmarkPublishStream(b *testing.B, copies, channels int) {
	b.Helper()
	c := newCluster(b)
	c.config.Replicas = copies
	var members []*member
	for i := range copies {
		members = append(members, c.start(fmt.Sprint("broker-", i)))
	}
	c.settled(members...)
	stream, err := members[0].pubsub.PublishStream(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	requests := make([]*pubsubv1.PublishRequest, channels)
	for i := range requests {
		requests[i] = &pubsubv1.PublishRequest{Channel: fmt.Sprintf("/bench/%d", i), Data: payload}
	}
	window := make(chan struct{}, 1000)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for i := range b.N {
			window <- struct{}{}
			if stream.Send(&pubsubv1.PublishStreamRequest{RequestId: uint64(i), Message: requests[i%channels]}) != nil {
				return // Recv says why
			}
		}
	}()
	for range b.N {
		answer, err := stream.Recv()
		if err != nil || answer.GetRefused() != nil {
			b.Fatalf("%v, %v", answer, err)
		}
		<-window
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "publishes/s")
}

// BenchmarkPublish publishes one message after another and waits for each.
func BenchmarkPublish(b *testing.B) {
	a := newCluster(b).start("a")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.pubsub.Publish(b.Context(), &pubsubv1.PublishRequest{Channel: "/bench", Data: payload}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAttachFanOut appends to one channel and delivers to followers, each
// on a stream of its own, over gRPC in memory. All have taken a batch before
// the next one is appended.
func BenchmarkAttachFanOut(b *testing.B) {
	const batch = 64
	for _, followers := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) {
			a := newCluster(b).start("a")
			ctx, cancel := context.WithCancel(b.Context())
			taken := make(chan int, followers) // how many entries a follower took, 0 when it joined
			var streams sync.WaitGroup
			for range followers {
				streams.Go(func() { a.follow(ctx, taken) })
			}
			for range followers {
				<-taken
			}
			stream, err := a.broker.Append(ctx)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for left := b.N; left > 0; left -= batch {
				n := min(batch, left)
				for range n {
					if err := stream.Send(offers(&brokerv1.Offer{Channel: "/bench", Data: payload})); err != nil {
						b.Fatal(err)
					}
				}
				for answered := 0; answered < n; {
					resp, err := stream.Recv()
					if err != nil {
						b.Fatal(err)
					}
					answered += len(resp.GetAnswers())
				}
				for waited := n * followers; waited > 0; {
					waited -= <-taken
				}
			}
			b.ReportMetric(float64(b.N*followers)/b.Elapsed().Seconds(), "deliveries/s")
			cancel()
			streams.Wait()
		})
	}
}

// follow says how many entries of /bench it takes, until ctx ends.
func (m *member) follow(ctx context.Context, taken chan<- int) {
	stream, err := m.broker.Attach(ctx)
	if err != nil {
		m.t.Error(err)
		return
	}
	for _, c := range []*brokerv1.AttachRequest{
		{Command: &brokerv1.AttachRequest_Hello{Hello: &brokerv1.Hello{Credit: 1 << 20}}},
		{Command: &brokerv1.AttachRequest_Open{Open: &brokerv1.Open{
			Slots: []*brokerv1.OpenSlot{{Slot: uint32(shard.Of("/bench"))}},
		}}},
		{Command: &brokerv1.AttachRequest_Join{Join: &brokerv1.Join{Interests: []*brokerv1.Interest{{Id: 1, Channel: "/bench"}}}}},
	} {
		_ = stream.Send(c) // Recv says why
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return // ctx ended
		}
		n, credit := 0, uint64(0)
		for _, f := range resp.GetFrames() {
			if f.GetJoined() != nil {
				taken <- 0
			}
			for _, e := range f.GetEntries().GetEntries() {
				n++
				credit += uint64(len(e.GetData()) + len(e.GetChannel()) + 64)
			}
		}
		if n > 0 {
			taken <- n
			_ = stream.Send(&brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Credit{Credit: &brokerv1.Credit{Bytes: credit}}})
		}
	}
}
