package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/test/internal/cluster"
)

// onDisk, among the arguments of brokers, gives each a directory of its own.
const onDisk = "--broker.data-dir"

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
	s.leave = func() {
		last := len(c.Brokers) - 1
		c.Brokers[last].Stop(b, time.Minute)
		c.Brokers = c.Brokers[:last]
		c.Settle(b)
	}
	s.connect = func(ctx context.Context, publisher int, acked func(int, error)) (func(int, int, []byte) error, error) {
		return publishStream(ctx, b, c.Brokers[publisher%brokers].GRPC, acked)
	}
	return s
}

func startBroker(b *testing.B, c *cluster.Topology, args ...string) {
	b.Helper()
	args = slices.Clone(args)
	if i := slices.Index(args, onDisk); i >= 0 {
		args[i] = onDisk + "=" + b.TempDir()
	}
	p := cluster.New(b, fmt.Sprintf("broker-%d", len(c.Brokers)), "broker", args...)
	p.Binary = cluster.Released(b)
	p.Start(b)
	c.Brokers = append(c.Brokers, p)
}

// publishStream opens a stream to a broker: a system's connect.
func publishStream(
	ctx context.Context, b *testing.B, addr string, acked func(int, error),
) (func(number, channel int, data []byte) error, error) {
	b.Helper()
	channels := make([]string, loadChannels)
	for i := range channels {
		channels[i] = "/bench/" + strconv.Itoa(i)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	b.Cleanup(func() { _ = conn.Close() }) // the processes have ended
	stream, err := pubsubv1.NewPubSubServiceClient(conn).PublishStream(ctx)
	if err != nil {
		return nil, err
	}
	waiting := make(chan *pubsubv1.PublishStreamRequest, loadWindow)
	go send(stream, waiting)
	go receive(stream, acked)
	messages := make([]*pubsubv1.PublishStreamRequest, loadWindow) // by number; one is free again once it is acknowledged
	for number := range messages {
		messages[number] = &pubsubv1.PublishStreamRequest{RequestId: uint64(number), Message: &pubsubv1.PublishRequest{}}
	}
	return func(number, channel int, data []byte) error {
		messages[number].Message.Channel, messages[number].Message.Data = channels[channel], data
		waiting <- messages[number]
		return nil
	}, nil
}

type publishes = grpc.BidiStreamingClient[pubsubv1.PublishStreamRequest, pubsubv1.PublishStreamResponse]

// send sends what waits, together, until the stream ends.
func send(stream publishes, waiting <-chan *pubsubv1.PublishStreamRequest) {
	var batch []*pubsubv1.PublishStreamRequest
	for {
		batch = batch[:0]
		select {
		case x := <-waiting:
			batch = append(batch, x)
		case <-stream.Context().Done():
			return
		}
		for len(waiting) > 0 {
			batch = append(batch, <-waiting)
		}
		if stream.Send(&pubsubv1.PublishStreamRequest{Batch: batch}) != nil {
			return // what was not acknowledged is missed
		}
	}
}

// receive tells of acknowledgements until the stream ends.
func receive(stream publishes, acked func(int, error)) {
	for {
		resp, err := stream.Recv()
		if err != nil {
			return // what was not acknowledged is missed
		}
		all := resp.GetBatch()
		if len(all) == 0 {
			all = append(all, resp)
		}
		for _, answer := range all {
			if refused := answer.GetRefused(); refused != nil {
				err = errors.New(refused.GetDetail())
			}
			acked(int(answer.GetRequestId()), err)
		}
	}
}
