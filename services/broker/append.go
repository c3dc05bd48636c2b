package broker

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// errMoved is the refusal of a slot that is not served here.
var errMoved = errors.New("this broker does not own the slot")

// Append implements [brokerv1.BrokerServiceServer]. With one copy a message is
// committed where it is appended, so answers come in the order of requests.
func (n *node) Append(stream grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
	ctx := stream.Context()
	requests, recvErr := rpc.Receive(stream)
	var unheard int64 // the newest row that was waited for in vain
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case req, ok := <-requests:
			if !ok {
				return recvErr()
			}
			if v := req.GetVersion(); v > unheard && !n.slots.hear(ctx, shard.Of(req.GetChannel()), v) {
				unheard = v
			}
			if err := stream.Send(n.append(req)); err != nil {
				return err
			}
		}
	}
}

func (n *node) append(req *brokerv1.AppendRequest) *brokerv1.AppendResponse {
	arrived := time.Now()
	resp := &brokerv1.AppendResponse{RequestId: req.GetRequestId()}
	if !bayeux.ValidLiteral(req.GetChannel()) {
		return n.refused(resp, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, "not a literal channel")
	}
	at := shard.Of(req.GetChannel())
	result, err := n.slots.append(at, req.GetVersion(), slot.Publication{
		Channel: req.GetChannel(), Data: req.GetData(), Ext: req.GetExt(), Members: req.GetMembers(),
		Session: req.GetSession(), ID: req.GetId(), Key: req.GetIdempotencyKey(),
	}, arrived)
	if err != nil {
		resp.Version = n.slots.places[at].version.Load()
		return n.refused(resp, reasonOf(err), err.Error())
	}
	resp.Offset, resp.Duplicate = result.Offset, result.Duplicate
	if !result.Duplicate {
		n.metrics.publishes.Inc()
		n.metrics.committed.Observe(time.Since(arrived).Seconds())
	}
	return resp
}

// append appends to a slot that is served here, commits and fans out. A sender
// that went by an older row may have had other messages refused since: it is
// told, so that it sends them first. Version 0 goes by no row.
func (o *ownership) append(n shard.Slot, version int64, m slot.Publication, now time.Time) (slot.Result, error) {
	p := &o.places[n]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == nil || version != 0 && version < p.row.Version {
		return slot.Result{}, errMoved
	}
	result, err := p.log.Append(m, now)
	if err != nil {
		return slot.Result{}, err
	}
	p.fanOut.Publish(p.log.Commit(p.copies.Appended(p.log.End())))
	return result, nil
}

func (n *node) refused(resp *brokerv1.AppendResponse, r channelv1.ErrorReason, detail string) *brokerv1.AppendResponse {
	n.metrics.refuseReason(r)
	resp.Refused, resp.Detail = r, detail
	return resp
}

// reasonOf is the reason callers are given for a slot's refusal.
func reasonOf(err error) channelv1.ErrorReason {
	switch {
	case errors.Is(err, errMoved):
		return channelv1.ErrorReason_ERROR_REASON_MOVED
	case errors.Is(err, slot.ErrKeyReused):
		return channelv1.ErrorReason_ERROR_REASON_KEY_REUSED
	case errors.Is(err, slot.ErrBusy):
		return channelv1.ErrorReason_ERROR_REASON_BUSY
	case errors.Is(err, slot.ErrTooLarge):
		return channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE
	}
	return channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE
}
