package broker

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/hub"
)

// Attach implements [brokerv1.BrokerServiceServer].
func (n *node) Attach(stream grpc.BidiStreamingServer[brokerv1.AttachRequest, brokerv1.AttachResponse]) error {
	ctx := stream.Context()
	commands, recvErr := rpc.Receive(stream)
	var follower *hub.Follower
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case c, ok := <-commands:
		if !ok {
			return recvErr()
		}
		if c.GetHello() == nil {
			return status.Error(codes.InvalidArgument, "the first command is to be hello")
		}
		follower = n.places.hub.Attach(c.GetHello().GetCredit())
	}
	defer follower.Close()
	n.metrics.followers.Inc()
	defer n.metrics.followers.Dec()

	heartbeat := time.NewTicker(n.cfg.Heartbeat)
	defer heartbeat.Stop()
	out := newFrameWriter(stream, n.metrics)
	for {
		select {
		case <-ctx.Done():
			return farewell(stream, context.Cause(ctx))
		case <-n.drained:
			return farewell(stream, run.ErrDraining)
		case c, ok := <-commands:
			if !ok {
				return recvErr()
			}
			if err := obey(follower, c); err != nil {
				return status.Error(codes.InvalidArgument, err.Error())
			}
		case <-heartbeat.C:
			follower.Marks()
		case <-follower.Ready():
		}
		// Also after a command: what answers it is sent before the next one.
		if err := out.write(follower.Items()); err != nil {
			return err
		}
	}
}

// farewell tells a follower why its stream ends, if it is the broker who ends it.
func farewell(stream grpc.BidiStreamingServer[brokerv1.AttachRequest, brokerv1.AttachResponse], cause error) error {
	if !errors.Is(cause, run.ErrDraining) {
		return cause
	}
	return stream.Send(&brokerv1.AttachResponse{Frames: []*brokerv1.Frame{{Kind: &brokerv1.Frame_Ending{
		Ending: &brokerv1.Ending{Reason: channelv1.ErrorReason_ERROR_REASON_DRAINING},
	}}}})
}

// obey carries out a command of a follower.
func obey(f *hub.Follower, c *brokerv1.AttachRequest) error {
	switch c := c.GetCommand().(type) {
	case *brokerv1.AttachRequest_Open:
		for _, s := range c.Open.GetSlots() {
			start := hub.Start{
				Given: s.Since != nil || s.GetEarliest(), Since: s.GetSince(), Earliest: s.GetEarliest(), Copy: s.GetCopy(),
			}
			if err := f.Open(shard.Slot(s.GetSlot()), start); err != nil {
				return err
			}
		}
	case *brokerv1.AttachRequest_Join:
		for _, i := range c.Join.GetInterests() {
			if err := f.Join(i.GetId(), i.GetChannel()); err != nil {
				return err
			}
		}
	case *brokerv1.AttachRequest_Leave:
		for _, id := range c.Leave.GetIds() {
			f.Leave(id)
		}
		for _, n := range c.Leave.GetSlots() {
			if err := f.Shut(shard.Slot(n)); err != nil {
				return err
			}
		}
	case *brokerv1.AttachRequest_Pull:
		return f.Pull(shard.Slot(c.Pull.GetSlot()))
	case *brokerv1.AttachRequest_Credit:
		f.Grant(c.Credit.GetBytes())
	default:
		return errors.New("unknown command, or hello for a second time")
	}
	return nil
}
