package broker

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
)

// maxOwed is how many publishes of one stream may wait for their answers before
// no more are read from it.
const maxOwed = 64 << 10

// Append implements [brokerv1.BrokerServiceServer]. Answers come when messages
// are committed: in the order of requests within a slot, unless one is refused.
func (n *node) Append(stream grpc.BidiStreamingServer[brokerv1.AppendRequest, brokerv1.AppendResponse]) error {
	ctx := stream.Context()
	requests, recvErr := rpc.Receive(stream)
	out := newAnswers()
	for {
		next := requests
		if out.owed >= maxOwed {
			next = nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case req, ok := <-next:
			if !ok {
				if err := recvErr(); err != nil || out.owed == 0 {
					return err
				}
				requests = nil // what was asked is answered
				continue
			}
			out.owed++
			n.append(out, req)
		case <-out.ready:
		}
		for _, resp := range out.take() {
			out.owed--
			if err := stream.Send(resp); err != nil {
				return err
			}
		}
		if requests == nil && out.owed == 0 {
			return nil
		}
	}
}

func (n *node) append(to *answers, req *brokerv1.AppendRequest) {
	if !bayeux.ValidLiteral(req.GetChannel()) {
		const reason = channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID
		n.metrics.refuseReason(reason)
		to.put(&brokerv1.AppendResponse{RequestId: req.GetRequestId(), Refused: reason, Detail: "not a literal channel"})
		return
	}
	n.places.offer(offer{to: to, req: req, arrived: time.Now()})
}

// answers are what waits to be sent on an Append stream. They are as many as
// the stream is owed.
type answers struct {
	owed  int           // requests that were not answered yet; of the stream's goroutine
	ready chan struct{} // holds a token when there may be some
	spare []*brokerv1.AppendResponse

	mu   sync.Mutex
	list []*brokerv1.AppendResponse // guarded by mu
}

func newAnswers() *answers { return &answers{ready: make(chan struct{}, 1)} }

// put adds an answer and never blocks.
func (a *answers) put(resp *brokerv1.AppendResponse) {
	a.mu.Lock()
	a.list = append(a.list, resp)
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
func (a *answers) take() []*brokerv1.AppendResponse {
	clear(a.spare)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list, a.spare = a.spare[:0], a.list
	return a.spare
}
