package broker

import (
	"context"
	"runtime"
	"slices"
	"sync"
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
	requests, recvErr := rpc.Receive(stream)
	out := newAnswers[*brokerv1.Answer]()
	owed := 0
	for {
		next := requests
		if owed >= maxOwed {
			next = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case req, ok := <-next:
			if !ok {
				if err := recvErr(); err != nil || owed == 0 {
					return err
				}
				requests = nil // what was asked is answered
				continue
			}
			owed += len(req.GetOffers())
			now := time.Now()
			for _, x := range req.GetOffers() {
				n.append(out, x, now)
			}
		case <-out.ready:
			runtime.Gosched() // more may be on their way
		}
		for answers := range slices.Chunk(out.take(), maxAnswers) {
			owed -= len(answers)
			if err := stream.Send(&brokerv1.AppendResponse{Answers: answers}); err != nil {
				return err
			}
		}
		if requests == nil && owed == 0 {
			return nil
		}
	}
}

// appendHere is an Append call within the process.
func (n *node) appendHere(ctx context.Context) upstream.AppendCall {
	return &ownAppend{ctx: ctx, node: n, out: newAnswers[*brokerv1.Answer]()}
}

type ownAppend struct {
	ctx  context.Context //nolint:containedctx // that of the call
	node *node
	out  *answers[*brokerv1.Answer]
}

// Send implements [upstream.AppendCall].
func (c *ownAppend) Send(req *brokerv1.AppendRequest) error {
	now := time.Now()
	for _, x := range req.GetOffers() {
		c.node.append(c.out, x, now)
	}
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

func (n *node) append(to *answers[*brokerv1.Answer], req *brokerv1.Offer, arrived time.Time) {
	if !bayeux.ValidLiteral(req.GetChannel()) {
		const reason = channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID
		n.metrics.refuseReason(reason)
		to.put(&brokerv1.Answer{RequestId: req.GetRequestId(), Refused: reason, Detail: "not a literal channel"})
		return
	}
	n.places.offer(offer{to: to, req: req, arrived: arrived})
}

// answers are what waits to be sent on a stream. They are as many as the stream
// is owed.
type answers[T any] struct {
	ready chan struct{} // holds a token when there may be some
	spare []T

	mu   sync.Mutex
	list []T // guarded by mu
}

func newAnswers[T any]() *answers[T] { return &answers[T]{ready: make(chan struct{}, 1)} }

// put adds an answer and never blocks.
func (a *answers[T]) put(answer T) {
	a.mu.Lock()
	a.list = append(a.list, answer)
	first := len(a.list) == 1
	a.mu.Unlock()
	if first {
		select {
		case a.ready <- struct{}{}:
		default: // told before, and not yet taken
		}
	}
}

// take takes all answers. The slice is good until the next call.
func (a *answers[T]) take() []T {
	clear(a.spare)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list, a.spare = a.spare[:0], a.list
	return a.spare
}
