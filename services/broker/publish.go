package broker

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/upstream"
)

// Publish implements [pubsubv1.PubSubServiceServer].
func (p *pubsub) Publish(ctx context.Context, req *pubsubv1.PublishRequest) (*pubsubv1.PublishResponse, error) {
	if err := checkPublish(p.deps.Namespaces, req); err != nil {
		return nil, p.metrics.refuse(err)
	}
	type outcome struct {
		ack upstream.Ack
		err error
	}
	done := make(chan outcome, 1)
	p.publisher.Publish(publication(req), func(a upstream.Ack, err error) { done <- outcome{a, err} })
	select {
	case o := <-done:
		if o.err != nil {
			return nil, p.metrics.refuse(o.err)
		}
		return published(o.ack), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func published(a upstream.Ack) *pubsubv1.PublishResponse {
	return &pubsubv1.PublishResponse{Position: a.Position, Duplicate: a.Duplicate}
}

// answer is the answer to one message of a stream, and the size of the message.
type answer struct {
	resp *pubsubv1.PublishStreamResponse
	size int
}

// PublishStream implements [pubsubv1.PubSubServiceServer]. What is in flight is
// bounded; beyond it the caller waits.
func (p *pubsub) PublishStream(stream grpc.BidiStreamingServer[pubsubv1.PublishStreamRequest, pubsubv1.PublishStreamResponse]) error {
	ctx := stream.Context()
	draining := ctx.Done()
	var gone <-chan struct{} // with draining nil
	requests, recvErr := rpc.Receive(stream)
	next, result := requests, recvErr
	inFlight, bytes := 0, 0
	answers := make(chan answer, p.cfg.MaxInFlight)
	for next != nil || inFlight > 0 {
		in := next
		if inFlight == p.cfg.MaxInFlight || bytes >= p.cfg.MaxInFlightBytes {
			in = nil
		}
		select {
		case <-draining:
			if !errors.Is(context.Cause(ctx), run.ErrDraining) {
				return context.Cause(ctx)
			}
			// What was taken is answered; what was not is the caller's to repeat.
			draining, next, result = nil, nil, func() error { return run.ErrDraining }
			gone = rpc.Gone(ctx)
		case <-gone:
			return result()
		case req, ok := <-in:
			if !ok {
				next = nil
				continue
			}
			inFlight++
			bytes += p.publishOne(req, answers)
		case a := <-answers:
			inFlight--
			bytes -= a.size
			if err := stream.Send(a.resp); err != nil {
				return err
			}
		}
	}
	return result()
}

// publishOne publishes one message of a stream and returns its size; its
// answer, then or later, finds room among the answers.
func (p *pubsub) publishOne(req *pubsubv1.PublishStreamRequest, answers chan<- answer) (size int) {
	m := req.GetMessage()
	size = len(m.GetData()) + len(m.GetExt())
	done := func(a upstream.Ack, err error) {
		resp := &pubsubv1.PublishStreamResponse{RequestId: req.GetRequestId()}
		if err == nil {
			resp.Outcome = &pubsubv1.PublishStreamResponse_Published{Published: published(a)}
		} else {
			resp.Outcome = &pubsubv1.PublishStreamResponse_Refused{Refused: refusal(p.metrics.refuse(err))}
		}
		answers <- answer{resp, size}
	}
	if err := checkPublish(p.deps.Namespaces, m); err != nil {
		done(upstream.Ack{}, err)
		return size
	}
	p.publisher.Publish(publication(m), done)
	return size
}

func refusal(err error) *pubsubv1.PublishRefusal {
	return &pubsubv1.PublishRefusal{Reason: rpc.Reason(err), Detail: status.Convert(err).Message()}
}
