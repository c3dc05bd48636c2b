package hub

import (
	"sync"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// MaxCredit bounds what a follower may be granted at a time, in bytes.
const MaxCredit = 64 << 20

// outbox is what waits to be sent to a follower: entries within its credit, and
// frames, of which no command and no slot makes more than a few.
type outbox struct {
	ready chan struct{}

	mu     sync.Mutex
	items  []Item // guarded by mu
	credit int64  // guarded by mu; below 0 by at most one entry

	spare []Item // of the stream's goroutine: given out last
}

// send appends an entry, unless there is no credit.
func (o *outbox) send(n shard.Slot, e *history.Entry) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.credit <= 0 {
		return false
	}
	o.credit -= int64(e.Cost())
	o.appendLocked(Item{Slot: n, Entry: e})
	return true
}

func (o *outbox) frame(f Frame) (index int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.appendLocked(Item{Frame: f})
	return len(o.items) - 1
}

// replace puts a frame where an earlier one was put; Items must not have been
// called since.
func (o *outbox) replace(index int, f Frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.items[index].Frame = f
}

func (o *outbox) appendLocked(it Item) {
	o.items = append(o.items, it)
	if len(o.items) == 1 {
		select {
		case o.ready <- struct{}{}:
		default: // told before, and not yet taken
		}
	}
}

// Ready receives when there may be items to take.
func (o *outbox) Ready() <-chan struct{} { return o.ready }

// Items takes what is to be sent, in order. The slice is valid until the next
// call. Take all of it before the next command: commands are answered by items,
// and only that bounds the answers.
func (o *outbox) Items() []Item {
	const keep = 4096
	clear(o.spare)
	if cap(o.spare) > keep {
		o.spare = nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.items, o.spare = o.spare[:0], o.items
	return o.spare
}

// Grant adds credit, up to MaxCredit.
func (o *outbox) Grant(bytes uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.credit = min(o.credit+int64(min(bytes, MaxCredit)), MaxCredit)
}
