package broker

import "sync"

// answers are what a stream owes its caller, and what of that waits to be sent.
// One goroutine owes, another one takes and sends.
type answers[T any] struct {
	ready chan struct{} // holds a token when there may be some
	spare []T
	most  debt

	mu     sync.Mutex
	room   sync.Cond // there is, or it is shut
	shut   bool      // nothing more is owed
	owed   debt      // also for those of list
	list   []T
	listed int // bytes that list is owed for
}

// debt is some answers, and the bytes of what they are to answer.
type debt struct{ count, bytes int }

// newAnswers returns an account of which neither bound is exceeded by more than
// what is owed at once.
func newAnswers[T any](most debt) *answers[T] {
	a := &answers[T]{ready: make(chan struct{}, 1), most: most}
	a.room.L = &a.mu
	return a
}

// owe adds answers that will be put, once there is room; false if the account
// is shut.
func (a *answers[T]) owe(more debt) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.shut && (a.owed.count >= a.most.count || a.owed.bytes >= a.most.bytes) {
		a.room.Wait()
	}
	if a.shut {
		return false
	}
	a.owed.count += more.count
	a.owed.bytes += more.bytes
	return true
}

// close lets nothing more be owed.
func (a *answers[T]) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shut = true
	a.room.Broadcast()
}

// put adds an answer to something of so many bytes, and never blocks.
func (a *answers[T]) put(answer T, bytes int) {
	a.mu.Lock()
	a.list = append(a.list, answer)
	a.listed += bytes
	first := len(a.list) == 1
	a.mu.Unlock()
	if first {
		select {
		case a.ready <- struct{}{}:
		default: // told before, and not yet taken
		}
	}
}

// take takes all answers there are, which are owed no longer. The slice is good
// until the next call.
func (a *answers[T]) take() []T {
	clear(a.spare)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list, a.spare = a.spare[:0], a.list
	a.owed.count -= len(a.spare)
	a.owed.bytes -= a.listed
	a.listed = 0
	a.room.Signal()
	return a.spare
}

// settled reports whether nothing is owed.
func (a *answers[T]) settled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.owed.count == 0
}
