package broker

import (
	"context"
	"math"
	"runtime"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/upstream"
)

const (
	// maxOwed is how many offers of one stream may wait for their answers before
	// no more are read from it.
	maxOwed = 64 << 10
	// maxAnswers is how many are sent in one message.
	maxAnswers = 4096
)

// Append implements [brokerv1.BrokerServiceServer]. Answers come when messages
// are committed: in the order of offers within a slot, unless one is refused.
func (n *node) Append(stream grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
	ctx := stream.Context()
	out := newAnswers[*brokerv1.Answer](debt{maxOwed, math.MaxInt})
	defer out.close()
	ended := rpc.Each(stream, func(req *brokerv1.AppendRequest) { n.appendAll(out, req) })
	for asked := true; asked || !out.settled(); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			if err != nil {
				return err
			}
			asked = false // what was asked is answered
		case <-out.ready:
			runtime.Gosched() // more may be on their way
		}
		for answers := range slices.Chunk(out.take(), maxAnswers) {
			if err := stream.Send(&brokerv1.AppendResponse{Answers: answers}); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendHere is an Append call within the process.
func (n *node) appendHere(ctx context.Context) upstream.AppendCall {
	unbounded := debt{math.MaxInt, math.MaxInt} // who calls bounds what it asks for
	return &ownAppend{ctx: ctx, node: n, out: newAnswers[*brokerv1.Answer](unbounded)}
}

type ownAppend struct {
	ctx  context.Context //nolint:containedctx // that of the call
	node *node
	out  *answers[*brokerv1.Answer]
}

// Send implements [upstream.AppendCall].
func (c *ownAppend) Send(req *brokerv1.AppendRequest) error {
	c.node.appendAll(c.out, req)
	return nil
}

// Recv implements [upstream.AppendCall].
func (c *ownAppend) Recv() (*brokerv1.AppendResponse, error) {
	select {
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	case <-c.out.ready:
		return &brokerv1.AppendResponse{Answers: c.out.take()}, nil
	}
}

// appendAll appends all of a request, when there is room to owe its answers.
func (n *node) appendAll(to *answers[*brokerv1.Answer], req *brokerv1.AppendRequest) {
	if !to.owe(debt{count: len(req.GetOffers())}) {
		return // the call is over
	}
	now := time.Now()
	for _, x := range req.GetOffers() {
		n.append(to, x, now)
	}
}

func (n *node) append(to *answers[*brokerv1.Answer], req *brokerv1.Offer, arrived time.Time) {
	if !bayeux.ValidLiteral(req.GetChannel()) {
		const reason = channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID
		n.metrics.refuseReason(reason)
		to.put(&brokerv1.Answer{RequestId: req.GetRequestId(), Refused: reason, Detail: "not a literal channel"}, 0)
		return
	}
	n.places.offer(offer{to: to, req: req, arrived: arrived})
}
