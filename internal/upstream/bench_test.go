package upstream_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
)

// sinkhole is a broker that does no work: it accepts what is published, and
// pushes one entry again and again as long as there is credit.
type sinkhole struct {
	brokerv1.UnimplementedBrokerServiceServer
	batch int
}

func (sinkhole) Append(stream grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
	var req brokerv1.AppendRequest
	for offset := uint64(0); ; {
		if err := stream.RecvMsg(&req); err != nil {
			return err
		}
		resp := &brokerv1.AppendResponse{}
		for _, x := range req.GetOffers() {
			offset++
			resp.Answers = append(resp.Answers, &brokerv1.Answer{RequestId: x.GetRequestId(), Offset: offset})
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func (b sinkhole) Attach(stream grpc.BidiStreamingServer[brokerv1.AttachRequest, brokerv1.AttachResponse]) error {
	slot := uint32(shard.Of("/bench"))
	var credit, offset uint64
	for {
		cmd, err := stream.Recv()
		if err != nil {
			return err
		}
		credit += cmd.GetHello().GetCredit() + cmd.GetCredit().GetBytes()
		for _, o := range cmd.GetOpen().GetSlots() {
			if err := stream.Send(&brokerv1.AttachResponse{Frames: []*brokerv1.Frame{{Kind: &brokerv1.Frame_Opened{
				Opened: &brokerv1.Opened{Slot: o.GetSlot(), Term: 1},
			}}}}); err != nil {
				return err
			}
		}
		for _, i := range cmd.GetJoin().GetInterests() {
			if err := stream.Send(&brokerv1.AttachResponse{Frames: []*brokerv1.Frame{{Kind: &brokerv1.Frame_Joined{
				Joined: &brokerv1.Joined{Id: i.GetId(), Positions: []*brokerv1.SlotPosition{{Slot: slot}}},
			}}}}); err != nil {
				return err
			}
			offset = 1
		}
		data := make([]byte, 100)
		size := uint64(len(data) + len("/bench") + 64)
		for offset > 0 && credit > size*uint64(b.batch) {
			entries := make([]*brokerv1.Entry, b.batch)
			for i := range entries {
				entries[i] = &brokerv1.Entry{Offset: offset, Prev: offset - 1, Term: 1, Channel: "/bench", Data: data}
				offset++
				credit -= size
			}
			if err := stream.Send(&brokerv1.AttachResponse{Frames: []*brokerv1.Frame{{Kind: &brokerv1.Frame_Entries{
				Entries: &brokerv1.Entries{Slot: slot, Entries: entries},
			}}}}); err != nil {
				return err
			}
		}
	}
}

// benchBroker serves a broker in memory that owns all slots.
func benchBroker(b *testing.B, broker brokerv1.BrokerServiceServer) (membership.Directory, *rpc.Pool) {
	b.Helper()
	door := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	brokerv1.RegisterBrokerServiceServer(server, broker)
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = server.Serve(door) })
	pool := rpc.NewPool(func(ctx context.Context, _ string) (net.Conn, error) { return door.DialContext(ctx) })
	dir := memory.NewStore(0).Directory()
	ctx, cancel := context.WithCancel(context.Background())
	node := membership.Node{Name: "broker", ID: "1", Roles: []membership.Role{membership.Broker}, Addr: "broker"}
	tasks.Go(func() { _ = dir.Register(ctx, node, nil) })
	lead, err := dir.Campaign(ctx, "controller")
	if err != nil {
		b.Fatal(err)
	}
	for s := range shard.Slot(shard.Slots) {
		row := shard.Row{Term: 1, Primary: node.Member(), Addr: node.Addr}
		if err := lead.Write(ctx, membership.Change{Slot: s, Row: row}); err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(func() {
		cancel()
		server.Stop()
		_ = pool.Close()
		tasks.Wait()
	})
	return dir, pool
}

func BenchmarkPublish(b *testing.B) {
	dir, pool := benchBroker(b, sinkhole{})
	p := upstream.NewPublisher(upstream.PublisherConfig{Directory: dir, Conns: pool, MaxCount: 1 << 20, Logger: quiet})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	flying := make(chan struct{}, 1000)
	data := make([]byte, 100)
	answered := func(_ upstream.Ack, err error) {
		if err != nil {
			b.Error(err)
		}
		<-flying
	}
	b.ReportAllocs()
	for b.Loop() {
		flying <- struct{}{}
		p.Publish(upstream.Publication{Channel: "/bench", Data: data}, answered)
	}
	for range cap(flying) {
		flying <- struct{}{}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "publishes/s")
	cancel()
	<-done
}

// counting is a sink that waits for a number of entries.
type counting struct {
	left int
	done chan struct{}
}

func (c *counting) Entries(_ shard.Slot, entries []*brokerv1.Entry) {
	if before := c.left; before > 0 {
		if c.left -= len(entries); c.left <= 0 {
			close(c.done)
		}
	}
}
func (*counting) Resync(shard.Position, []string) {}
func (*counting) Through(shard.Position)          {}
func (*counting) Joined(string, []shard.Position) {}

// BenchmarkFollow counts the work of the broker's side of the stream, too.
func BenchmarkFollow(b *testing.B) {
	dir, pool := benchBroker(b, sinkhole{batch: 50})
	sink := &counting{left: b.N, done: make(chan struct{})}
	f := upstream.NewFollower(upstream.FollowerConfig{
		Directory: dir, Conns: pool, Heartbeat: time.Hour, Logger: quiet,
	}, sink)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	b.ReportAllocs()
	b.ResetTimer()
	f.Join("/bench")
	go func() { done <- f.Run(ctx) }()
	<-sink.done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	cancel()
	<-done
}
