package broker

import (
	"context"
	"errors"
	"runtime"

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

// publishing is one PublishStream call, of whose loop it is.
type publishing struct {
	service *pubsub
	stream  grpc.BidiStreamingServer[pubsubv1.PublishStreamRequest, pubsubv1.PublishStreamResponse]
	answers *answers[answer]

	taken    []*pubsubv1.PublishStreamRequest // and not published yet
	batches  bool                             // the caller knows them
	inFlight int
	bytes    int // in flight
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
	c := publishing{service: p, stream: stream, answers: newAnswers[answer]()}
	for next != nil || len(c.taken) > 0 || c.inFlight > 0 {
		c.publish()
		in := next
		if len(c.taken) > 0 {
			in = nil
		}
		select {
		case <-draining:
			if !errors.Is(context.Cause(ctx), run.ErrDraining) {
				return context.Cause(ctx)
			}
			// What was published is answered; what was not is the caller's to repeat.
			draining, next, result = nil, nil, func() error { return run.ErrDraining }
			c.taken, gone = nil, rpc.Gone(ctx)
		case <-gone:
			return result()
		case req, ok := <-in:
			if !ok {
				next = nil
				continue
			}
			c.take(req)
		case <-c.answers.ready:
			if err := c.answer(); err != nil {
				return err
			}
		}
	}
	return result()
}

// take takes a request.
func (c *publishing) take(req *pubsubv1.PublishStreamRequest) {
	if batch := req.GetBatch(); len(batch) > 0 {
		c.taken, c.batches = batch, true
		return
	}
	c.taken = []*pubsubv1.PublishStreamRequest{req}
}

// publish publishes what was taken, as far as there is room.
func (c *publishing) publish() {
	cfg := &c.service.cfg
	for len(c.taken) > 0 && c.inFlight < cfg.MaxInFlight && c.bytes < cfg.MaxInFlightBytes {
		c.inFlight++
		c.bytes += c.service.publishOne(c.taken[0], c.answers)
		c.taken = c.taken[1:]
	}
}

// answer sends the answers there are.
func (c *publishing) answer() error {
	runtime.Gosched() // more may be on their way
	all := c.answers.take()
	responses := make([]*pubsubv1.PublishStreamResponse, len(all))
	for i, a := range all {
		c.inFlight--
		c.bytes -= a.size
		responses[i] = a.resp
	}
	if c.batches && len(responses) > 1 {
		return c.stream.Send(&pubsubv1.PublishStreamResponse{Batch: responses})
	}
	for _, resp := range responses {
		if err := c.stream.Send(resp); err != nil {
			return err
		}
	}
	return nil
}

// publishOne publishes one message of a stream and returns its size; its
// answer, then or later, is put to the answers.
func (p *pubsub) publishOne(req *pubsubv1.PublishStreamRequest, answers *answers[answer]) (size int) {
	m := req.GetMessage()
	size = len(m.GetData()) + len(m.GetExt())
	done := func(a upstream.Ack, err error) {
		if err != nil {
			answers.put(answer{refused(req, p.metrics.refuse(err)), size})
			return
		}
		answers.put(answer{accepted(req, a), size})
	}
	if err := checkPublish(p.deps.Namespaces, m); err != nil {
		done(upstream.Ack{}, err)
		return size
	}
	p.publisher.Publish(publication(m), done)
	return size
}

// accepted is an answer, made of one piece of memory.
func accepted(req *pubsubv1.PublishStreamRequest, a upstream.Ack) *pubsubv1.PublishStreamResponse {
	var x struct {
		resp      pubsubv1.PublishStreamResponse
		outcome   pubsubv1.PublishStreamResponse_Published
		published pubsubv1.PublishResponse
	}
	x.resp.RequestId, x.resp.Outcome = req.GetRequestId(), &x.outcome
	x.outcome.Published = &x.published
	x.published.Position, x.published.Duplicate = a.Position, a.Duplicate
	return &x.resp
}

func refused(req *pubsubv1.PublishStreamRequest, err error) *pubsubv1.PublishStreamResponse {
	return &pubsubv1.PublishStreamResponse{
		RequestId: req.GetRequestId(),
		Outcome: &pubsubv1.PublishStreamResponse_Refused{Refused: &pubsubv1.PublishRefusal{
			Reason: rpc.Reason(err), Detail: status.Convert(err).Message(),
		}},
	}
}
