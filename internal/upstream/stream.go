package upstream

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
)

// outbox is what waits to be sent on a stream.
type outbox[T any] struct {
	wake chan struct{} // holds one token while there may be something

	mu    sync.Mutex
	items []*T // guarded by mu
}

func newOutbox[T any]() *outbox[T] { return &outbox[T]{wake: make(chan struct{}, 1)} }

// put adds items and returns how many wait now.
func (o *outbox[T]) put(items ...*T) int {
	o.mu.Lock()
	o.items = append(o.items, items...)
	n := len(o.items)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return n
}

// take swaps what waits for an empty slice.
func (o *outbox[T]) take(empty []*T) []*T {
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items = empty
	return items
}

// converse sends what comes into the outbox, and calls receive in a goroutine
// of its own, until the stream ends, which is when receive fails. The stream's
// context must be ended by cancel.
func converse[T any](cancel context.CancelFunc, out *outbox[T], send func(batch []*T) error, receive func() error) error {
	received := make(chan error, 1)
	go func() {
		for {
			if err := receive(); err != nil {
				received <- err
				return
			}
		}
	}()
	var batch []*T
	for {
		select {
		case err := <-received:
			cancel()
			return err
		case <-out.wake:
			runtime.Gosched() // more may be on its way
		}
		batch = out.take(batch[:0])
		if err := send(batch); err != nil {
			if !errors.Is(err, io.EOF) { // EOF: the receiver knows why
				cancel()
			}
			return <-received
		}
		clear(batch)
	}
}
