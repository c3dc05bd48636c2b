// Package deadline keeps one deadline for each of many values and says which
// have come, with one timer for all of them.
//
//  1. Set costs O(log n) when a deadline changes and nothing when it does not;
//     it may be called under any lock that the callback of Run also takes.
//  2. A value is handed out once for a deadline, not before it and at most the
//     queue's slack after it, so that one wake-up serves many. It has none
//     afterwards, until Set gives it one again.
//  3. A value whose deadline is moved while it is being handed out may still be
//     handed out for the old one.
package deadline

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Entry is a value and its deadline. Embed it in the value or keep it beside
// it; the zero Entry has no deadline. It belongs to one Queue.
type Entry[V any] struct {
	Value V

	at    time.Duration // guarded by the queue's mu, as the queue counts time
	index int           // likewise: place in the heap, from 1; 0: none
}

// Queue holds entries by deadline.
type Queue[V any] struct {
	slack   time.Duration // static
	changed chan struct{} // the earliest deadline came nearer

	mu      sync.Mutex
	origin  time.Time  // guarded by mu: the first deadline ever, from which times count
	entries entries[V] // likewise
}

// New returns an empty queue.
func New[V any](slack time.Duration) *Queue[V] {
	return &Queue[V]{slack: slack, changed: make(chan struct{}, 1)}
}

// Set gives an entry another deadline; zero: none.
func (q *Queue[V]) Set(e *Entry[V], at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if at.IsZero() {
		if e.index != 0 {
			heap.Remove(&q.entries, e.index-1)
		}
		return
	}
	switch due := q.count(at); {
	case e.index == 0:
		e.at = due
		heap.Push(&q.entries, e)
	case e.at == due:
		return
	default:
		e.at = due
		heap.Fix(&q.entries, e.index-1)
	}
	if e.index == 1 {
		select {
		case q.changed <- struct{}{}:
		default:
		}
	}
}

// count is a time as the queue counts it: small and monotonic.
func (q *Queue[V]) count(t time.Time) time.Duration {
	if q.origin.IsZero() {
		q.origin = t
	}
	return t.Sub(q.origin)
}

// Len is how many entries have a deadline.
func (q *Queue[V]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
}

// Run calls fire for every deadline that comes, one after the other, until ctx
// ends.
func (q *Queue[V]) Run(ctx context.Context, fire func(now time.Time, v V)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		v, next, due := q.pop(now)
		if due {
			fire(now, v)
			continue
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(next.Sub(now) + q.slack)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-q.changed:
		}
	}
}

// pop takes out an entry whose deadline has come, or says when the next one will.
func (q *Queue[V]) pop(now time.Time) (v V, next time.Time, due bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) == 0 {
		return v, time.Time{}, false
	}
	e := q.entries[0]
	if e.at > q.count(now) {
		return v, q.origin.Add(e.at), false
	}
	heap.Pop(&q.entries)
	return e.Value, time.Time{}, true
}

// entries implements heap.Interface.
type entries[V any] []*Entry[V]

func (h entries[V]) Len() int           { return len(h) }
func (h entries[V]) Less(i, j int) bool { return h[i].at < h[j].at }

func (h entries[V]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i+1, j+1
}

func (h *entries[V]) Push(x any) {
	e, _ := x.(*Entry[V])
	*h = append(*h, e)
	e.index = len(*h)
}

func (h *entries[V]) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = 0
	return e
}
