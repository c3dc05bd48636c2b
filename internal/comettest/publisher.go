package comettest

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

// Publisher publishes {"N":1}, {"N":2}, … to one channel, until it is stopped.
type Publisher struct {
	Publishing

	way   way
	brake chan struct{} // closed by Stop
	stop  sync.Once
	done  chan struct{}

	mu       sync.Mutex
	started  []time.Time // of n at n-1
	placed   []uint64    // where n is, at n-1; 0: that is unclear
	acks     []ack       // in the order of their positions
	acked    int
	retried  map[int]bool
	tries    int
	slowest  time.Duration
	breaches []error
}

// ack is where a number is.
type ack struct {
	n        int
	position uint64
}

// Manner is how a Publisher publishes.
type Manner string

// The manners.
const (
	// Keyed publishes one after the other, each with a key, again and again
	// until it is acknowledged, at the next broker after a failure.
	Keyed Manner = "keyed"
	// Unkeyed publishes each once. What becomes of it after a failure is
	// unclear.
	Unkeyed Manner = "unkeyed"
	// Streamed sends all on a stream without waiting for answers, each with a
	// key. When the stream is lost it goes on at the next broker, with all that
	// was not answered. What is refused is unclear.
	Streamed Manner = "streamed"
	// Posted is Unkeyed, as a browser publishes: at an edge, over HTTP.
	Posted Manner = "posted"
)

// Publishing says what a Publisher does.
type Publishing struct {
	Channel string
	Every   time.Duration
	Manner  Manner
	// Host is where it runs, "backend" if not given.
	Host string
}

// Publish starts a Keyed publisher on a host; it ends with the test or Stop.
func (c *Cluster) Publish(host, channel string, every time.Duration) *Publisher {
	c.t.Helper()
	return c.PublishAs(Publishing{Channel: channel, Every: every, Manner: Keyed, Host: host})
}

// PublishAs starts a publisher; it ends with the test or Stop.
func (c *Cluster) PublishAs(how Publishing) *Publisher {
	c.t.Helper()
	if how.Host == "" {
		how.Host = "backend"
	}
	p := &Publisher{Publishing: how, brake: make(chan struct{}), done: make(chan struct{}), retried: map[int]bool{}}
	switch how.Manner {
	case Keyed, Unkeyed:
		p.way = &calls{p: p, brokers: c.Backend(how.Host)}
	case Streamed:
		p.way = &streaming{p: p, brokers: c.Backend(how.Host)}
	case Posted:
		p.way = &posts{p: p, http: c.HTTP(how.Host), edges: c.edges()}
	}
	go func() {
		defer close(p.done)
		p.way.run()
	}()
	c.t.Cleanup(p.Stop)
	return p
}

// Stop ends the publisher once what it sent last is acknowledged.
func (p *Publisher) Stop() {
	p.stop.Do(func() { close(p.brake) })
	<-p.done
}

// Acked is the last number that was acknowledged.
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

// began is when a number was published for the first time.
func (p *Publisher) began(n int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started[n-1]
}

// place is where a number is, 0 if that is unclear.
func (p *Publisher) place(n int) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < 1 || n > len(p.placed) {
		return 0
	}
	return p.placed[n-1]
}

// owed returns the numbers from one up to, but without, another that were
// acknowledged.
func (p *Publisher) owed(from, to int) (numbers []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := max(from, 1); n < to && n <= len(p.placed); n++ {
		if p.placed[n-1] != 0 {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// between returns the numbers that are behind one position and not behind
// another.
func (p *Publisher) between(after, until uint64) (numbers []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := p.searchLocked(after); i < len(p.acks) && p.acks[i].position <= until; i++ {
		numbers = append(numbers, p.acks[i].n)
	}
	return numbers
}

// searchLocked returns the index of the first acknowledgment behind a position.
func (p *Publisher) searchLocked(after uint64) int {
	return sort.Search(len(p.acks), func(i int) bool { return p.acks[i].position > after })
}

// Acks returns where all that was acknowledged is.
func (p *Publisher) Acks() map[int]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[int]uint64, len(p.acks))
	for _, a := range p.acks {
		all[a.n] = a.position
	}
	return all
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

// begin notes that the next number is published from now on.
func (p *Publisher) begin() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started, p.placed = append(p.started, time.Now()), append(p.placed, 0)
	return len(p.started)
}

// try notes that a broker is called.
func (p *Publisher) try() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
}

// ack notes where a number is. It has to be behind all smaller ones.
func (p *Publisher) ack(n int, position uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked = max(p.acked, n)
	p.slowest = max(p.slowest, time.Since(p.started[n-1]))
	i := p.searchLocked(position)
	if i > 0 && p.acks[i-1].n >= n || i < len(p.acks) && p.acks[i].n < n {
		p.breaches = append(p.breaches, fmt.Errorf("%s: %d is at %d, %v are around it", p.Channel, n, position, p.acks[max(i-1, 0):min(i+1, len(p.acks))]))
	}
	p.placed[n-1] = position
	p.acks = slices.Insert(p.acks, i, ack{n, position})
}

// fail notes a breach of the promises.
func (p *Publisher) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.breaches = append(p.breaches, err)
}

// found returns the breaches that were found.
func (p *Publisher) found() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.breaches...)
}

// rest waits until it is time for the next number; false after Stop.
func (p *Publisher) rest() bool {
	timer := time.NewTimer(p.Every)
	defer timer.Stop()
	select {
	case <-p.brake:
		return false
	case <-timer.C:
		return true
	}
}

func (p *Publisher) message(n int) *pubsubv1.PublishRequest {
	m := &pubsubv1.PublishRequest{Channel: p.Channel, Data: fmt.Appendf(nil, `{"N":%d}`, n)}
	if p.Manner != Unkeyed {
		m.IdempotencyKey = fmt.Sprintf("%s-%d", p.Channel, n)
	}
	return m
}
