package load

import (
	"container/heap"
	"context"
	"crypto/tls"
	"net/netip"
	"time"
)

// readBuffer is how much a worker reads at once.
const readBuffer = 256 << 10

// worker holds connections of clients. Its methods may be called while it runs.
type worker interface {
	// run ends with ctx, having closed all connections.
	run(ctx context.Context) error
	// look calls with what the worker's clients have added up so far.
	look(with func(*tally))
}

// target is where a worker's clients connect.
type target struct {
	addr    netip.AddrPort
	tls     *tls.Config // nil for http
	sources int         // how many of 127.0.0.2, 127.0.0.3 and so on clients come from; 0: whatever the system chooses
	opening int         // how many clients of a worker may be on their way at once
	clock   func() time.Duration
}

// source is the address that a client comes from, if it matters.
func (t *target) source(client int) (netip.Addr, bool) {
	if t.sources == 0 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + client%t.sources)}), true
}

// alarms are the clients that have one, the earliest first. A client whose
// alarm has changed since is in it again.
type alarms []alarm

type alarm struct {
	at     time.Duration
	client *client
}

func (a *alarms) Len() int           { return len(*a) }
func (a *alarms) Less(i, j int) bool { return (*a)[i].at < (*a)[j].at }
func (a *alarms) Swap(i, j int)      { (*a)[i], (*a)[j] = (*a)[j], (*a)[i] }

// Push implements [heap.Interface].
func (a *alarms) Push(x any) { *a = append(*a, x.(alarm)) } //nolint:forcetypeassert // only set pushes

// Pop implements [heap.Interface].
func (a *alarms) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// set takes note of a client's alarm.
func (a *alarms) set(c *client) {
	if c.alarm > 0 && c.alarm != c.armed {
		c.armed = c.alarm
		heap.Push(a, alarm{at: c.alarm, client: c})
	}
}

// due returns a client whose alarm is due, nil if there is none.
func (a *alarms) due(now time.Duration) *client {
	for len(*a) > 0 && (*a)[0].at <= now {
		next, _ := heap.Pop(a).(alarm)
		if next.client.alarm == next.at {
			return next.client
		}
	}
	return nil
}

// next is when the first alarm is due, at the latest at most.
func (a *alarms) next(most time.Duration) time.Duration {
	if len(*a) > 0 {
		return min((*a)[0].at, most)
	}
	return most
}
