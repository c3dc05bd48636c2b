package edge

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/channels"
	"github.com/comet-push/comet/services/edge/internal/deadline"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/plain"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// reader is the shell of one request that reads plain channels: its lock, its
// stream or its one answer, and its effects.
//
// Each call of the machine is one method: lock, call, settle. Frames are handed
// to the stream, and the answer to its exchange, under the lock. What the hub
// and brokers are asked is asked without it, in order, by one goroutine at a
// time: whoever finds nobody at it.
//
// There are as many as there are requests held, so it is small.
type reader struct {
	door   *plainDoor   // static, as are the next two
	stream *hold.Stream // nil if there is one answer
	reply  *reply       // nil if there is a stream

	publishes atomic.Int32 // unanswered
	place     int32        // in the registry, guarded by that

	mu      sync.Mutex // guards what follows; calls under it take leaf locks only
	busy    bool       // somebody carries orders out
	plain   *plain.Reader
	opening chan<- *web.Problem // told how the stream begins, then nil
	joining *joining            // interests that are not answered, or nil
	orders  []orders            // to be carried out
	timer   deadline.Entry[*reader]
	wake    time.Duration // what timer is set to, as the service counts time
}

// reply is the one answer of a reader.
type reply struct {
	*channels.Exchange

	waits  bool // for news, so that it is known how long these took
	events int
	newest int64 // when the newest event was appended, in ns; 0: unknown
}

// orders are what a reader wants from the hub and from history.
type orders struct {
	interests []plain.Interest
	reads     []plain.Read
}

// joining is the interests of a reader that have no answer yet, and the answers
// that it has not been given.
type joining struct {
	asked    []plain.Interest
	answered []joined
}

type joined struct {
	token uint64
	from  []shard.Position
	err   *bayeux.Error
}

func (r *reader) number() uint64 {
	if r.stream != nil {
		return r.stream.Number()
	}
	return r.reply.Number()
}

// start starts the machine, unless the drain has ended it already, or the peer
// is gone.
func (r *reader) start() {
	var out plain.Effects
	now := time.Now()
	r.mu.Lock()
	if r.plain.Ended() == "" {
		r.plain.Start(now, &out)
	}
	r.settle(now, &out)
}

// Deliver implements [hub.Subscriber].
func (r *reader) Deliver(via string, e *event.Event) {
	var out plain.Effects
	now := time.Now()
	r.mu.Lock()
	if !r.plain.Deliver(now, via, e, &out) {
		r.settle(now, &out)
		return
	}
	if r.stream.Send(e.Frame(r.plain.Encoding())) >= hold.Full {
		r.plain.Blocked()
	}
	r.mu.Unlock()
	r.door.delivered(r, now, e)
}

// Resync implements [hub.Subscriber].
func (r *reader) Resync(channel string, at shard.Position) {
	var out plain.Effects
	now := time.Now()
	r.mu.Lock()
	r.plain.Resync(now, channel, at, &out)
	r.settle(now, &out)
}

// Subscribed implements [hub.Subscriber]: the hub is locked, so the machine is
// told by Settle.
func (r *reader) Subscribed(token uint64, from []shard.Position, err *bayeux.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joining != nil {
		r.joining.answered = append(r.joining.answered, joined{token, from, err})
	}
}

// Settle implements [hub.Subscriber].
func (r *reader) Settle() {
	for {
		channel, answer, ok := r.nextJoined()
		if !ok {
			return
		}
		if answer.err == nil && answer.from == nil { // a pattern
			answer.from = r.door.hub.From(channel)
		}
		var out plain.Effects
		now := time.Now()
		r.mu.Lock()
		r.plain.Subscribed(now, answer.token, answer.from, answer.err, &out)
		r.settle(now, &out)
	}
}

// nextJoined takes an answer out of those that wait.
func (r *reader) nextJoined() (channel string, answer joined, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.joining
	if j == nil || len(j.answered) == 0 {
		return "", joined{}, false
	}
	answer, j.answered = j.answered[0], j.answered[1:]
	for i, asked := range j.asked {
		if asked.Token == answer.token {
			channel = asked.Channel
			j.asked = append(j.asked[:i], j.asked[i+1:]...)
			break
		}
	}
	if len(j.asked)+len(j.answered) == 0 {
		r.joining = nil
	}
	return channel, answer, true
}

func (r *reader) replayed(token uint64, pages []plain.Page, err *bayeux.Error) {
	var out plain.Effects
	now := time.Now()
	r.mu.Lock()
	r.plain.Replayed(now, token, pages, err, &out)
	r.settle(now, &out)
}

func (r *reader) tick(now time.Time) {
	var out plain.Effects
	r.mu.Lock()
	r.wake = 0 // the timer let go of it
	r.plain.Tick(now, &out)
	r.settle(now, &out)
}

func (r *reader) drain(interval time.Duration) { r.end(plain.Draining, interval) }

func (r *reader) end(reason plain.Reason, retry time.Duration) {
	var out plain.Effects
	now := time.Now()
	r.mu.Lock()
	r.plain.End(now, reason, retry, &out)
	r.settle(now, &out)
}

// lose ends the reader because there is nobody to tell.
func (r *reader) lose() {
	var out plain.Effects
	r.mu.Lock()
	r.plain.Lost(&out)
	r.settle(time.Now(), &out)
}

// Writable implements [hold.StreamOwner].
func (r *reader) Writable(uint64) {
	var out plain.Effects
	now := time.Now()
	r.mu.Lock()
	r.plain.Writable(now, &out)
	r.settle(now, &out)
}

// Drain implements [hold.StreamOwner] and [hold.Owner].
func (r *reader) Drain(uint64) { r.drain(r.door.drainInterval()) }

// Ended implements [hold.StreamOwner].
func (r *reader) Ended(uint64, bool) {
	r.lose()
	r.door.forget(r)
}

// Written implements [hold.Owner].
func (r *reader) Written(uint64) {
	r.door.written(time.Now(), r.reply.events, r.reply.newest)
	r.lose()
	r.door.forget(r)
}

// Lost implements [hold.Owner].
func (r *reader) Lost(uint64) {
	r.lose()
	r.door.forget(r)
}
