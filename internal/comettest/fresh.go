package comettest

import (
	"context"
	"fmt"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

// newest is where the last message of a publisher is of which it knows.
func (p *Publisher) newest() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.acks) == 0 {
		return 0
	}
	return p.acks[len(p.acks)-1].position
}

// Read reads the end of a publisher's channel at every broker, again and again,
// until the test ends. What was acknowledged before a read was sent is in its
// answer, or something newer, or there is no answer.
func (c *Cluster) Read(p *Publisher, every time.Duration) {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for brokers, i := c.Backend("reader"), 0; ctx.Err() == nil; i++ {
			if err := read(ctx, brokers[i%len(brokers)], p); err != nil {
				p.fail(err)
			}
			wait(ctx, every)
		}
	}()
	c.t.Cleanup(func() { stop(); <-done })
}

func read(ctx context.Context, at pubsubv1.PubSubServiceClient, p *Publisher) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin, before := time.Now(), p.newest()
	page, err := at.History(ctx, &pubsubv1.HistoryRequest{Channel: p.Channel, Limit: 1, Reverse: true})
	if err != nil {
		return nil // no answer is no wrong one
	}
	through := uint64(0)
	for _, m := range page.GetMessages() {
		through = m.GetPosition()
	}
	if before > through && incarnation(before) == incarnation(p.newest()) && time.Since(begin) < retainedFor && through != 0 {
		return fmt.Errorf("%s: a read at %s ended at %d, behind %d", p.Channel, begin.Format("15:04:05.000"), through, before)
	}
	return nil
}
