package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

// load publishes numbers to channels over one PublishStream, each channel's in
// order, until it is stopped.
type load struct {
	*member
	channels []string
	stop     chan struct{}
	done     chan struct{}

	mu        sync.Mutex
	acked     map[string]map[int]bool // by channel
	published int
	refused   map[channelv1.ErrorReason]int
	sent      map[int]time.Time
	slowest   time.Duration
}

func (m *member) load(every time.Duration, channels ...string) *load {
	m.t.Helper()
	l := &load{
		member: m, channels: channels, stop: make(chan struct{}), done: make(chan struct{}),
		acked: map[string]map[int]bool{}, refused: map[channelv1.ErrorReason]int{},
		sent: map[int]time.Time{},
	}
	stream, err := m.pubsub.PublishStream(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	go l.send(stream, every)
	go func() {
		defer close(l.done)
		for {
			a, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					m.t.Errorf("publish stream through %s: %v", m.name, err)
				}
				return
			}
			l.answer(a)
		}
	}()
	return l
}

type publishStream interface {
	Send(r *pubsubv1.PublishStreamRequest) error
	CloseSend() error
}

// send publishes the number n/len(channels) to the channel n%len(channels).
func (l *load) send(stream publishStream, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer func() { _ = stream.CloseSend() }()
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		l.mu.Lock()
		l.sent[n] = time.Now()
		l.mu.Unlock()
		err := stream.Send(&pubsubv1.PublishStreamRequest{RequestId: uint64(n), Message: &pubsubv1.PublishRequest{
			Channel: l.channels[n%len(l.channels)], Data: strconv.AppendInt(nil, int64(n/len(l.channels)), 10),
		}})
		if err != nil {
			return
		}
		l.mu.Lock()
		l.published++
		l.mu.Unlock()
	}
}

func (l *load) answer(a *pubsubv1.PublishStreamResponse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := a.GetRefused(); r != nil {
		l.refused[r.GetReason()]++
		return
	}
	n := int(a.GetRequestId())
	l.slowest = max(l.slowest, time.Since(l.sent[n]))
	channel := l.channels[n%len(l.channels)]
	if l.acked[channel] == nil {
		l.acked[channel] = map[int]bool{}
	}
	l.acked[channel][n/len(l.channels)] = true
}

// finish stops publishing and waits for all answers; none may be refused.
func (l *load) finish() {
	l.t.Helper()
	close(l.stop)
	<-l.done
	if len(l.refused) > 0 {
		l.t.Errorf("of %d publishes these were refused: %v", l.published, l.refused)
	}
}

// verdict is what check found out.
type verdict struct{ received, duplicates, resyncs, covered int }

// check fails unless a subscriber, who subscribed before the load began, was
// given every acknowledged message in order, or a resync for it.
func (s *subscriber) check(l *load) verdict {
	s.t.Helper()
	time.Sleep(5 * time.Second) // what is under way arrives
	s.cancel()
	var v verdict
	next := map[string]int{}     // by channel: the number that should come
	excused := map[string]bool{} // a resync came since the last message
	for e := range s.events {
		if r := e.GetResync(); r != nil {
			v.resyncs++
			for _, name := range r.GetChannels() {
				for _, c := range l.channels {
					if bayeux.Match(name, c) {
						excused[c] = true
					}
				}
			}
		}
		m := e.GetMessage()
		if m == nil {
			continue
		}
		v.received++
		n, err := strconv.Atoi(string(m.GetData()))
		c := m.GetChannel()
		switch {
		case err != nil:
			s.t.Fatal(err)
		case n < next[c]:
			v.duplicates++
			if !excused[c] {
				s.t.Errorf("%s: %d came again without a resync, %d was next", c, n, next[c])
			}
			continue
		case n > next[c] && !excused[c]:
			s.t.Errorf("%s: %d came, but %d was next", c, n, next[c])
		}
		for missed := next[c]; missed < n; missed++ {
			v.covered++
		}
		next[c], excused[c] = n+1, false
	}
	for _, c := range l.channels {
		for n := range l.acked[c] {
			if n >= next[c] && !excused[c] {
				s.t.Errorf("%s: %d was acknowledged and did not come", c, n)
			}
		}
	}
	return v
}

func manyChannels(n int) []string {
	channels := make([]string, n)
	for i := range channels {
		channels[i] = fmt.Sprintf("/load/%d", i)
	}
	return channels
}

func TestOrderSurvivesMoves(t *testing.T) {
	const quick = 250 * time.Millisecond
	tests := []struct {
		name    string
		lossy   bool // where there is one copy only
		slowest time.Duration
		do      func(c *cluster, members map[string]*member)
	}{
		{"nothing", false, quick, func(*cluster, map[string]*member) { time.Sleep(time.Second) }},
		{"join", false, quick, func(c *cluster, members map[string]*member) {
			members["d"] = c.start("d")
			time.Sleep(20 * time.Second)
		}},
		{"drain", false, quick, func(_ *cluster, members map[string]*member) {
			members["b"].drain()
			time.Sleep(time.Second)
		}},
		{"rolling restart", false, quick, func(c *cluster, members map[string]*member) {
			for _, name := range []string{"c", "b"} {
				members[name].drain()
				members[name] = c.start(name)
				time.Sleep(2 * time.Second)
			}
		}},
		{"crash and return", true, 2 * time.Second, func(c *cluster, members map[string]*member) {
			members["b"].kill()
			time.Sleep(time.Second)
			members["b"] = c.start("b")
			time.Sleep(time.Second)
		}},
		{"crash", true, 5 * time.Second, func(_ *cluster, members map[string]*member) {
			time.Sleep(8 * time.Second) // the controller is no longer cautious
			members["b"].kill()
			time.Sleep(10 * time.Second)
		}},
		{"store out of reach", false, quick, func(c *cluster, _ map[string]*member) {
			c.store.Disconnect(true)
			time.Sleep(20 * time.Second)
			c.store.Disconnect(false)
			time.Sleep(10 * time.Second)
		}},
		{"one cut off from the store", false, quick, func(_ *cluster, members map[string]*member) {
			members["b"].dir.Disconnect(true)
			time.Sleep(20 * time.Second)
			members["b"].dir.Disconnect(false)
			time.Sleep(10 * time.Second)
		}},
	}
	for _, tt := range tests {
		for _, replicas := range []int{1, 2} {
			if replicas == 1 && tt.slowest == quick && tt.name != "rolling restart" {
				continue // with one copy what is slow, or loses, counts
			}
			t.Run(fmt.Sprintf("%s/replicas=%d", tt.name, replicas), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t)
					c.config.Replicas = replicas
					slowest := survive(t, c, tt.do, tt.lossy && replicas == 1)
					if slowest > tt.slowest {
						t.Errorf("a publish took %v, want %v at most", slowest, tt.slowest)
					}
				})
			})
		}
	}
}

// survive has three brokers under load while something happens, and returns
// how long the slowest publish took.
func survive(t *testing.T, c *cluster, do func(*cluster, map[string]*member), lossy bool) time.Duration {
	members := map[string]*member{"a": c.start("a"), "b": c.start("b"), "c": c.start("c")}
	c.settled(members["a"], members["b"], members["c"])
	c.delay(2*time.Millisecond, members["a"], members["b"], members["c"])
	channels := manyChannels(20)
	pattern := members["a"].subscribe("", "/load/**")
	literals := members["a"].subscribe("", channels[:3]...)
	load := members["a"].load(20*time.Millisecond, channels...)
	do(c, maps.Clone(members))
	load.finish()
	v := pattern.check(load)
	literals.checkSome(load, channels[:3])
	if v.received < 40 || lossy != (v.resyncs > 0) {
		t.Errorf("%+v, want resyncs: %v", v, lossy)
	}
	t.Logf("%d published, slowest answer after %v, %+v", load.published, load.slowest, v)
	return load.slowest
}

// checkSome is check for a subscriber of some of the channels.
func (s *subscriber) checkSome(l *load, channels []string) {
	s.t.Helper()
	some := &load{channels: channels, acked: l.acked}
	s.check(some)
}
