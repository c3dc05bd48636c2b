package drill

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

type publishStream = grpc.BidiStreamingClient[pubsubv1.PublishStreamRequest, pubsubv1.PublishStreamResponse]

// pipeline publishes over a stream without waiting for answers. When the stream
// fails, everything from the first unanswered message on is sent again through
// the next door, in order, before anything newer.
type pipeline struct {
	*way

	start  time.Time
	made   int // messages so far
	first  int // the number of the first of queue
	queue  []*post
	closed []bool // of each of queue: it is answered
}

func (w *way) pipeline() *pipeline { return &pipeline{way: w, start: time.Now()} }

// run publishes until ctx ends.
func (p *pipeline) run(ctx context.Context) {
	for ctx.Err() == nil {
		d, at := p.door()
		err := p.through(ctx, d)
		if err == nil || ctx.Err() != nil {
			continue
		}
		p.ledger.retried(reason(err))
		p.next(at)
		sleep(ctx, 20*time.Millisecond)
	}
}

// through publishes over one stream until that fails, or is to be left.
func (p *pipeline) through(ctx context.Context, d *door) error {
	ctx, cancel := d.attend(ctx)
	defer cancel()
	stream, err := d.grpc.PublishStream(ctx)
	if err != nil {
		return err
	}
	answers, failed := make(chan *pubsubv1.PublishStreamResponse), make(chan error, 1)
	go func() {
		for {
			resp, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case answers <- resp:
			case <-ctx.Done():
				failed <- ctx.Err()
				return
			}
		}
	}()
	if err := p.send(stream, p.first); err != nil {
		return err
	}
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-p.back:
			return nil
		case resp := <-answers:
			d.answered()
			if err := p.answered(d, resp); err != nil {
				return err
			}
		case now := <-pace.C:
			from := p.first + len(p.queue)
			p.fill(now)
			if err := p.send(stream, from); err != nil {
				return err
			}
		}
	}
}

// fill queues what is due.
func (p *pipeline) fill(now time.Time) {
	gap := p.every / time.Duration(len(p.channels))
	for at := p.start.Add(time.Duration(p.made) * gap); !at.After(now); at = at.Add(gap) {
		channel := p.channels[p.made%len(p.channels)]
		p.queue = append(p.queue, p.ledger.due(channel, 1+p.made/len(p.channels), at))
		p.closed = append(p.closed, false)
		p.made++
	}
}

// send sends what is not answered from a number on.
func (p *pipeline) send(stream publishStream, from int) error {
	for i := from - p.first; i < len(p.queue); i++ {
		if p.closed[i] {
			continue
		}
		m := p.queue[i]
		err := stream.Send(&pubsubv1.PublishStreamRequest{
			RequestId: uint64(p.first + i),
			Message:   &pubsubv1.PublishRequest{Channel: m.channel, Data: m.data, IdempotencyKey: m.key},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// answered takes an answer; a refusal is an error.
func (p *pipeline) answered(d *door, resp *pubsubv1.PublishStreamResponse) error {
	if r := resp.GetRefused(); r != nil {
		return fmt.Errorf("refused %s", r.GetReason())
	}
	i := int(resp.GetRequestId()) - p.first
	if i < 0 || i >= len(p.queue) || p.closed[i] {
		p.ledger.fault("an answer for %d, which nobody asked", resp.GetRequestId())
		return nil
	}
	p.closed[i] = true
	p.ledger.published(p.queue[i], d.name)
	for len(p.queue) > 0 && p.closed[0] {
		p.queue, p.closed = p.queue[1:], p.closed[1:]
		p.first++
	}
	return nil
}
