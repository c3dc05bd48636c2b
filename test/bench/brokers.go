package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/test/internal/cluster"
)

// startBrokers starts brokers and an etcd, and waits until the slots are where
// they stay.
func startBrokers(b *testing.B, name string, brokers int, args ...string) *system {
	b.Helper()
	c := &cluster.Topology{Etcd: cluster.NewEtcd(b)}
	c.Etcd.Start(b)
	args = append([]string{"--config=" + cluster.Config(b, cluster.Open), "--etcd.endpoints=" + c.Etcd.URL}, args...)
	for range brokers {
		startBroker(b, c, args...)
	}
	for _, p := range c.Brokers {
		p.Ready(b, time.Minute)
	}
	c.Settle(b)
	s := &system{name: name, processes: c.Brokers}
	for _, p := range c.Brokers {
		s.pids = append(s.pids, p.Pid())
	}
	s.join = func() {
		startBroker(b, c, args...)
		c.Settle(b)
	}
	channels := make([]string, loadChannels)
	for i := range channels {
		channels[i] = "/bench/" + strconv.Itoa(i)
	}
	s.connect = func(ctx context.Context, publisher int, acked func(int, error)) (func(int, int, []byte) error, error) {
		stream, err := publishStream(ctx, b, c.Brokers[publisher%len(c.Brokers)].GRPC)
		if err != nil {
			return nil, err
		}
		go receive(stream, acked)
		return func(number, channel int, data []byte) error {
			return stream.Send(&pubsubv1.PublishStreamRequest{RequestId: uint64(number), Message: &pubsubv1.PublishRequest{
				Channel: channels[channel], Data: data,
			}})
		}, nil
	}
	return s
}

func startBroker(b *testing.B, c *cluster.Topology, args ...string) {
	b.Helper()
	p := cluster.New(b, fmt.Sprintf("broker-%d", len(c.Brokers)), "broker", args...)
	p.Binary = cluster.Released(b)
	p.Start(b)
	c.Brokers = append(c.Brokers, p)
}

func publishStream(
	ctx context.Context, b *testing.B, addr string,
) (grpc.BidiStreamingClient[pubsubv1.PublishStreamRequest, pubsubv1.PublishStreamResponse], error) {
	b.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	b.Cleanup(func() { _ = conn.Close() }) // the processes have ended
	return pubsubv1.NewPubSubServiceClient(conn).PublishStream(ctx)
}

// receive tells of acknowledgements until the stream ends.
func receive(stream grpc.BidiStreamingClient[pubsubv1.PublishStreamRequest, pubsubv1.PublishStreamResponse], acked func(int, error)) {
	for {
		answer, err := stream.Recv()
		if err != nil {
			return // what it did not acknowledge is missed
		}
		if refused := answer.GetRefused(); refused != nil {
			err = errors.New(refused.GetDetail())
		}
		acked(int(answer.GetRequestId()), err)
	}
}
