package comettest

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

// Publisher publishes {"N":1}, {"N":2}, … to one channel, one at a time: each
// with a key, again and again until it is acknowledged, at the next broker
// after a failure.
type Publisher struct {
	Channel string

	brokers []pubsubv1.PubSubServiceClient
	every   time.Duration
	stop    context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	started []time.Time // of n at n-1
	placed  []uint64    // where n is, at n-1
	acked   int
	retried map[int]bool
	tries   int
	slowest time.Duration
}

// Publish starts a publisher on a host; it ends with the test or Stop.
func (c *Cluster) Publish(host, channel string, every time.Duration) *Publisher {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &Publisher{Channel: channel, brokers: c.Backend(host), every: every, stop: stop, done: make(chan struct{}), retried: map[int]bool{}}
	go func() {
		defer close(p.done)
		p.run(ctx)
	}()
	c.t.Cleanup(p.Stop)
	return p
}

// Stop ends the publisher once what it sent last is acknowledged.
func (p *Publisher) Stop() {
	p.stop()
	<-p.done
}

// Acked is how many messages were acknowledged.
func (p *Publisher) Acked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// Tries is how often it called a broker.
func (p *Publisher) Tries() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tries
}

// Slowest is the longest that one message took, with all its tries.
func (p *Publisher) Slowest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slowest
}

// since returns the first number whose publish began after a time, one more
// than the last if none did.
func (p *Publisher) since(t time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, at := range p.started {
		if at.After(t) {
			return i + 1
		}
	}
	return len(p.started) + 1
}

// place is where a number is, 0 if it is not acknowledged.
func (p *Publisher) place(n int) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < 1 || n > len(p.placed) {
		return 0
	}
	return p.placed[n-1]
}

// between returns the numbers that are behind one position and not behind
// another.
func (p *Publisher) between(after, until uint64) (numbers []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := sort.Search(len(p.placed), func(i int) bool { return p.placed[i] > after })
	for i := first; i < len(p.placed) && p.placed[i] <= until; i++ {
		numbers = append(numbers, i+1)
	}
	return numbers
}

// again notes that a number is sent once more.
func (p *Publisher) again(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retried[n] = true
}

// Retried reports whether a number was sent more than once.
func (p *Publisher) Retried(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retried[n]
}

func (p *Publisher) run(ctx context.Context) {
	broker := 0
	for n := 1; ctx.Err() == nil; n++ {
		begin := time.Now()
		p.mu.Lock()
		p.started = append(p.started, begin)
		p.mu.Unlock()
		position, ok := p.try(p.brokers[broker%len(p.brokers)], n)
		for !ok {
			broker++
			p.again(n)
			time.Sleep(100 * time.Millisecond)
			position, ok = p.try(p.brokers[broker%len(p.brokers)], n)
		}
		p.mu.Lock()
		p.acked, p.placed = n, append(p.placed, position)
		p.slowest = max(p.slowest, time.Since(begin))
		p.mu.Unlock()
		wait(ctx, p.every)
	}
}

// try publishes a number once, and returns where it is.
func (p *Publisher) try(broker pubsubv1.PubSubServiceClient, n int) (position uint64, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	p.mu.Lock()
	p.tries++
	p.mu.Unlock()
	answer, err := broker.Publish(ctx, &pubsubv1.PublishRequest{
		Channel: p.Channel, Data: fmt.Appendf(nil, `{"N":%d}`, n), IdempotencyKey: fmt.Sprintf("%s-%d", p.Channel, n),
	})
	return answer.GetPosition(), err == nil
}
