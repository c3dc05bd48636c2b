package relay

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

// link is the stream to a home, at a front.
type link struct {
	most   int
	cancel context.CancelCauseFunc

	mu      sync.Mutex // leaf
	heard   time.Time  // of the home, or when it was first waited for
	idle    int        // beats without anybody waiting
	out     []*edgev1.RelayRequest
	changed chan struct{}       // of one: out has something
	waiting map[uint64]Exchange // not answered; nil once the stream has ended
}

const (
	beatEvery = time.Second
	// silence is how long nothing may be heard of a home that is waited for.
	silence = 4 * time.Second
	// rest is after how many beats a stream ends that nobody waits on.
	rest = 60
)

var errIdle = errors.New("nobody needs it")

var errSilent = errors.New("the edge does not answer")

func newLink(most int, cancel context.CancelCauseFunc) *link {
	return &link{most: most, cancel: cancel, changed: make(chan struct{}, 1), waiting: map[uint64]Exchange{}}
}

// run keeps the stream until it breaks or ctx ends.
func (l *link) run(ctx context.Context, cfg Config, home membership.Node) error {
	conn, err := cfg.Conns.Conn(home.Addr)
	if err != nil {
		return err
	}
	stream, err := edgev1.NewEdgeServiceClient(conn).Relay(ctx)
	if err != nil {
		return fmt.Errorf("relay to %s: %w", home.Name, err)
	}
	if err := stream.Send(&edgev1.RelayRequest{Front: cfg.Self}); err != nil {
		return fmt.Errorf("relay to %s: %w", home.Name, err)
	}
	received := rpc.Each(stream, l.take)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer l.cancel(nil)
	watching.Go(func() { l.watch(ctx) })
	for {
		select {
		case err := <-received:
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("relay to %s: %w", home.Name, err)
		case <-l.changed:
			for _, r := range l.collect() {
				if err := stream.Send(r); err != nil {
					l.cancel(err)
					return fmt.Errorf("relay to %s: %w", home.Name, <-received)
				}
			}
		}
	}
}

// watch has the home say that it is there while it is waited for, and ends the
// stream if it does not, or if nobody has waited for a minute. It does not send, so
// it is not held up.
func (l *link) watch(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := l.beat(now); err != nil {
				l.cancel(err)
			}
		}
	}
}

func (l *link) beat(now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) > 0 {
		l.idle = 0
		if now.Sub(l.heard) >= silence {
			return errSilent
		}
		l.tellLocked(&edgev1.RelayRequest{Event: &edgev1.RelayRequest_Beat{Beat: true}})
		return nil
	}
	if l.idle++; l.idle < rest {
		return nil
	}
	l.waiting = nil // whoever comes now begins another
	return errIdle
}

// ended reports whether nothing can be relayed any more.
func (l *link) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting == nil
}

func (l *link) collect() []*edgev1.RelayRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.out
	l.out = nil
	return out
}

// begin relays a request, if there is room.
func (l *link) begin(number uint64, r *edgev1.RelayedRequest, x Exchange) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil || len(l.waiting) >= l.most {
		return false
	}
	if len(l.waiting) == 0 {
		l.heard = time.Now()
	}
	l.waiting[number] = x
	l.tellLocked(&edgev1.RelayRequest{Exchange: number, Event: &edgev1.RelayRequest_Request{Request: r}})
	return true
}

func (l *link) over(number uint64, written bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, number)
	if written {
		l.tellLocked(&edgev1.RelayRequest{Exchange: number, Event: &edgev1.RelayRequest_Written{Written: true}})
	} else {
		l.tellLocked(&edgev1.RelayRequest{Exchange: number, Event: &edgev1.RelayRequest_Lost{Lost: true}})
	}
}

func (l *link) hurry(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting[number] != nil {
		l.tellLocked(&edgev1.RelayRequest{Exchange: number, Event: &edgev1.RelayRequest_Hurry{Hurry: true}})
	}
}

// tellLocked queues what is to be sent. There are at most three things for each
// exchange that the home has not heard the end of, and a beat a second.
func (l *link) tellLocked(r *edgev1.RelayRequest) {
	if l.waiting == nil {
		return
	}
	l.out = append(l.out, r)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// take hands over what the home says.
func (l *link) take(r *edgev1.RelayResponse) {
	l.mu.Lock()
	l.heard = time.Now()
	x := l.waiting[r.GetExchange()]
	delete(l.waiting, r.GetExchange())
	l.mu.Unlock()
	if x == nil {
		return // its client is gone, or it is no exchange
	}
	switch outcome := r.GetOutcome().(type) {
	case *edgev1.RelayResponse_Answer:
		x.Answered(hold.Answer{Status: int(outcome.Answer.GetStatus()), Body: outcome.Answer.GetBody()}, r.GetSettled())
	case *edgev1.RelayResponse_NotHome:
		if outcome.NotHome.GetOver() {
			x.Over()
		} else {
			x.Elsewhere(outcome.NotHome.GetHome(), outcome.NotHome.GetBegun())
		}
	default:
		x.Failed(true)
	}
}

// end fails what has no answer, and returns how many that are.
func (l *link) end() int {
	l.mu.Lock()
	waiting := l.waiting
	l.waiting, l.out = nil, nil
	l.mu.Unlock()
	for _, x := range waiting {
		x.Failed(true)
	}
	return len(waiting)
}
