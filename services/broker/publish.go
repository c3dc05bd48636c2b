package broker

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"

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

// publishing is one PublishStream call.
type publishing struct {
	service *pubsub
	stream  grpc.BidiStreamingServer[pubsubv1.PublishStreamRequest, pubsubv1.PublishStreamResponse]
	out     *answers[*pubsubv1.PublishStreamResponse]
	batches atomic.Bool // the caller knows them
}

// PublishStream implements [pubsubv1.PubSubServiceServer]. What is in flight is
// bounded; beyond it the caller waits.
func (p *pubsub) PublishStream(stream grpc.BidiStreamingServer[pubsubv1.PublishStreamRequest, pubsubv1.PublishStreamResponse]) error {
	ctx := stream.Context()
	draining := ctx.Done()
	var gone <-chan struct{} // with draining nil
	c := publishing{
		service: p, stream: stream,
		out: newAnswers[*pubsubv1.PublishStreamResponse](debt{p.cfg.MaxInFlight, p.cfg.MaxInFlightBytes}),
	}
	defer c.out.close()
	ended := rpc.Each(stream, c.publish)
	var result error
	for open := true; open || !c.out.settled(); {
		select {
		case <-draining:
			if !errors.Is(context.Cause(ctx), run.ErrDraining) {
				return context.Cause(ctx)
			}
			// What was published is answered; what was not is the caller's to repeat.
			c.out.close()
			open, result = false, run.ErrDraining
			draining, gone = nil, rpc.Gone(ctx)
		case <-gone:
			return result
		case err := <-ended:
			if open && err != nil {
				return err
			}
			open = false
		case <-c.out.ready:
			if err := c.answer(); err != nil {
				return err
			}
		}
	}
	return result
}

// publish publishes what a request holds, as far as answers to it may be owed.
func (c *publishing) publish(req *pubsubv1.PublishStreamRequest) {
	batch := req.GetBatch()
	if len(batch) == 0 {
		c.publishOne(req)
		return
	}
	c.batches.Store(true)
	for _, one := range batch {
		c.publishOne(one)
	}
}

// publishOne publishes one message; its answer, then or later, is put to the
// others.
func (c *publishing) publishOne(req *pubsubv1.PublishStreamRequest) {
	m := req.GetMessage()
	size := len(m.GetData()) + len(m.GetExt())
	if !c.out.owe(debt{1, size}) {
		return // the caller is told to repeat it elsewhere, or is gone
	}
	p := c.service
	done := func(a upstream.Ack, err error) {
		if err != nil {
			c.out.put(refused(req, p.metrics.refuse(err)), size)
			return
		}
		c.out.put(accepted(req, a), size)
	}
	if err := checkPublish(p.deps.Namespaces, m); err != nil {
		done(upstream.Ack{}, err)
		return
	}
	p.publisher.Publish(publication(m), done)
}

// answer sends the answers there are.
func (c *publishing) answer() error {
	runtime.Gosched() // more may be on their way
	all := c.out.take()
	if c.batches.Load() && len(all) > 1 {
		return c.stream.Send(&pubsubv1.PublishStreamResponse{Batch: all})
	}
	for _, resp := range all {
		if err := c.stream.Send(resp); err != nil {
			return err
		}
	}
	return nil
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
