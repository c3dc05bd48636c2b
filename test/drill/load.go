package drill

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

const (
	perStream = 32 // channels of each stream
	perCalls  = 16 // channels published to by single calls, and by REST
	// each channel gets a message so often: 128 channels make 320 a second.
	pace = 400 * time.Millisecond
)

// load is the publishers and the followers of a site.
type load struct {
	*ledger
	ways     []*way
	channels []string
}

// begin starts publishers through every broker, by streams, calls and REST, and
// at every edge a follower of each kind. They end with the test.
func begin(ctx context.Context, t testing.TB, s *site) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	l := &load{ledger: newLedger()}
	var doors []*door
	for _, b := range s.brokers {
		d, err := newDoor(b)
		if err != nil {
			t.Fatal(err)
		}
		doors = append(doors, d)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		running.Wait()
		for _, d := range doors {
			d.close()
		}
	})
	for i := range doors {
		l.add(newWay(l.ledger, doors, i, names(fmt.Sprintf("stream-%d", i), perStream), pace))
	}
	l.add(newWay(l.ledger, doors, 1, names("call", perCalls), pace))
	l.add(newWay(l.ledger, doors, 2, names("rest", perCalls), pace))
	l.follow(ctx, t, s, &running)
	for i, w := range l.ways {
		running.Go(func() {
			switch i {
			case len(doors):
				w.calls(ctx, unary)
			case len(doors) + 1:
				w.calls(ctx, rest)
			default:
				w.pipeline().run(ctx)
			}
		})
	}
	return l
}

func (l *load) add(w *way) {
	l.ways = append(l.ways, w)
	l.channels = append(l.channels, w.channels...)
}

func names(kind string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("/drill/%s/%d", kind, i)
	}
	return all
}

// follow starts the followers, and waits until all are there.
func (l *load) follow(ctx context.Context, t testing.TB, s *site, running *sync.WaitGroup) {
	t.Helper()
	there := make(chan struct{}, 1)
	arrived := func() {
		select {
		case there <- struct{}{}:
		case <-ctx.Done():
		}
	}
	expected := 0
	for i, e := range s.edges {
		plain, bayeux := []string{"sse", "stream"}[i], l.account("cometd at "+e.Name)
		a := l.account(plain + " at " + e.Name)
		running.Go(func() {
			var once sync.Once
			follow(ctx, a, plain, "/drill/**", e.HTTP, func() { once.Do(arrived) })
		})
		running.Go(func() {
			left, all := len(l.channels), sync.Once{}
			err := watch(ctx, bayeux, e.HTTP, l.channels, func() {
				if left--; left == 0 {
					all.Do(arrived)
				}
			})
			if err != nil {
				l.fault("%v", err)
			}
		})
		expected += 2
	}
	for range expected {
		select {
		case <-there:
		case <-time.After(ready):
			t.Fatal("not all followers have subscribed")
		}
	}
}

// goHome brings the publishers back to the brokers they began with.
func (l *load) goHome() {
	for _, w := range l.ways {
		w.goHome()
	}
}
