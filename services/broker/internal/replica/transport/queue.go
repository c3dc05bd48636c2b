package transport

import (
	"sync"
	"time"

	"github.com/comet-push/comet/services/broker/internal/replica"
)

const (
	// batchBytes is about how much is sent at a time, unless one message has
	// more.
	batchBytes = 256 << 10
	// overhead is what a message takes beside its bytes, at most.
	overhead = 64
	// spare is how many items' memory a queue keeps when it is empty.
	spare = 4096
)

// item is a frame that waits to be sent: a message, or a pong.
type item struct {
	frame
	size int
}

// queue is what waits to be sent on a stream, and what its pings say.
type queue struct {
	limit int
	wake  chan struct{} // holds a token while there may be something

	mu     sync.Mutex
	opened bool
	items  []item
	pieces []item // of snapshots
	bytes  int    // of both, and of those that are being sent

	due    bool      // a ping should be sent
	asked  bool      // a ping was sent and not answered
	number uint64    // of the last ping
	at     time.Time // when it was sent
	quiet  int       // heartbeats since the last sign of life
}

func newQueue(limit int) *queue { return &queue{limit: limit, wake: make(chan struct{}, 1)} }

// open lets things in.
func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.opened = true
}

// close lets nothing in any more, and forgets what waits.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut()
}

func (q *queue) shut() { q.opened, q.items, q.pieces = false, nil, nil }

// put lets something in, unless the queue is not open; false if there was too
// much already: then it has closed.
func (q *queue) put(i item) bool {
	q.mu.Lock()
	if !q.opened {
		q.mu.Unlock()
		return true
	}
	if q.bytes >= q.limit {
		q.shut()
		q.mu.Unlock()
		return false
	}
	if _, piece := i.message.(*replica.Piece); piece {
		q.pieces = append(q.pieces, i)
	} else {
		q.items = append(q.items, i)
	}
	q.bytes += i.size
	q.mu.Unlock()
	q.rouse()
	return true
}

func (q *queue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns what waits but for pieces of snapshots, for the memory of what
// was taken before.
func (q *queue) take(before []item) []item {
	clear(before)
	if cap(before) > spare {
		before = nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items = before[:0]
	return items
}

// takePiece appends the oldest piece of a snapshot that waits.
func (q *queue) takePiece(to []item) []item {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pieces) > 0 {
		to = append(to, q.pieces[0])
		q.pieces[0] = item{}
		q.pieces = q.pieces[1:]
	}
	return to
}

// behind reports whether pieces of snapshots wait.
func (q *queue) behind() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pieces) > 0
}

// sent says that so much of what was taken is on its way.
func (q *queue) sent(bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= bytes
}

// beat makes a ping due unless one is under way; false after too many without
// a sign of life. Those that are excused do not count.
func (q *queue) beat(excused bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.opened {
		return true
	}
	if !excused {
		q.quiet++
	}
	if q.quiet > patience {
		return false
	}
	q.probeLocked()
	return true
}

// probe makes a ping due, unless one is under way.
func (q *queue) probe() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.probeLocked()
}

func (q *queue) probeLocked() {
	if q.opened && !q.asked {
		q.due = true
		q.rouse()
	}
}

// ping returns the number of the ping that is to be sent now; 0: none.
func (q *queue) ping(now time.Time) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.due {
		return 0
	}
	q.due, q.asked, q.at = false, true, now
	q.number++
	return q.number
}

// answered returns when a ping was sent; false if it was not, or is answered.
func (q *queue) answered(number uint64) (time.Time, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.asked || number != q.number {
		return time.Time{}, false
	}
	q.asked = false
	return q.at, true
}

// alive takes note of a sign of life.
func (q *queue) alive() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.quiet = 0
}

// waiting is how many bytes wait.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// fit returns how many items one batch takes, and their bytes.
func fit(items []item) (n, bytes int) {
	for n < len(items) && (n == 0 || bytes+items[n].size <= batchBytes) {
		bytes += items[n].size
		n++
	}
	return n, bytes
}
