package comettest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
)

// way is how the numbers of a publisher reach a cluster.
type way interface {
	// run publishes until the publisher is stopped and what it sent is answered.
	run()
}

const (
	// keyedPatience is how long a broker may take before the next is tried.
	keyedPatience = 3 * time.Second
	// patience is longer than a broker or an edge tries.
	patience = 10 * time.Second
)

// calls publishes by a call each.
type calls struct {
	p       *Publisher
	brokers []pubsubv1.PubSubServiceClient
	at      int
}

func (w *calls) run() {
	for more := true; more; more = w.p.rest() {
		n := w.p.begin()
		position, ok := w.call(n)
		for !ok {
			w.at++
			time.Sleep(100 * time.Millisecond)
			if w.p.Manner == Unkeyed {
				break
			}
			w.p.again(n)
			position, ok = w.call(n)
		}
		if ok {
			w.p.ack(n, position)
		}
	}
}

func (w *calls) call(n int) (position uint64, ok bool) {
	limit := keyedPatience
	if w.p.Manner == Unkeyed {
		limit = patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w.p.try()
	answer, err := w.brokers[w.at%len(w.brokers)].Publish(ctx, w.p.message(n))
	return answer.GetPosition(), err == nil
}

// posts publishes at edges, by an HTTP request each.
type posts struct {
	p     *Publisher
	http  *http.Client
	edges []string
	at    int
}

func (w *posts) run() {
	for more := true; more; more = w.p.rest() {
		n := w.p.begin()
		if position, err := w.post(n); err == nil {
			w.p.ack(n, position)
		} else {
			w.at++
		}
	}
}

func (w *posts) post(n int) (position uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url := "http://" + w.edges[w.at%len(w.edges)] + ":8080/channels" + w.p.Channel
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(fmt.Sprintf(`{"N":%d}`, n)))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	w.p.try()
	resp, err := w.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("publish: %s", resp.Status)
	}
	var answer struct{ Position uint64 }
	return answer.Position, json.NewDecoder(resp.Body).Decode(&answer)
}

// streaming publishes on a stream, many at a time.
type streaming struct {
	p       *Publisher
	brokers []pubsubv1.PubSubServiceClient
	at      int

	mu       sync.Mutex
	waiting  []int // without an answer, ascending
	finished bool  // nothing more is coming
	numbers  chan int
}

// most is how many may be without an answer.
const most = 64

func (w *streaming) run() {
	w.numbers = make(chan int, most)
	go func() {
		defer close(w.numbers)
		for more := true; more; more = w.p.rest() {
			if w.count() < most {
				n := w.p.begin()
				w.add(n)
				w.numbers <- n
			}
		}
	}()
	for !w.life() {
		w.at++
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *streaming) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting)
}

func (w *streaming) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, n)
}

// settle takes a number that was answered out.
func (w *streaming) settle(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, k := range w.waiting {
		if k == n {
			w.waiting = append(w.waiting[:i:i], w.waiting[i+1:]...)
			return
		}
	}
}

// life is one stream; it reports whether all is done.
func (w *streaming) life() bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := w.brokers[w.at%len(w.brokers)].PublishStream(ctx)
	if err != nil {
		return false
	}
	received := make(chan struct{})
	silence := time.AfterFunc(patience, cancel)
	defer silence.Stop()
	go func() {
		defer close(received)
		for {
			resp, err := stream.Recv()
			if err != nil {
				return
			}
			silence.Reset(patience)
			if done := resp.GetPublished(); done != nil {
				w.p.ack(int(resp.GetRequestId()), done.GetPosition())
			}
			w.settle(int(resp.GetRequestId()))
		}
	}()
	send := func(n int) bool {
		w.p.try()
		return stream.Send(&pubsubv1.PublishStreamRequest{RequestId: uint64(n), Message: w.p.message(n)}) == nil
	}
	last := 0
	for _, n := range w.unanswered() {
		if w.at > 0 {
			w.p.again(n)
		}
		if last = n; !send(n) {
			<-received
			return false
		}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-received:
			return w.over()
		case n, more := <-w.numbers:
			switch {
			case !more:
				w.finish()
				_ = stream.CloseSend() // what was sent is answered, or the stream breaks
				<-received
				return w.over()
			case n > last && !send(n):
				<-received
				return false
			}
		case <-tick.C:
			if w.count() == 0 {
				silence.Reset(patience)
			}
		}
	}
}

func (w *streaming) unanswered() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int(nil), w.waiting...)
}

func (w *streaming) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = true
}

// over reports whether everything was sent and answered.
func (w *streaming) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.finished && len(w.waiting) == 0
}
