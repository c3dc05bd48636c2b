package broker

import (
	"maps"
	"sync"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
)

// eventOverhead is what an entry takes beside its bytes, roughly.
const eventOverhead = 256

// inbox stands between the follower of a Subscribe call, which fills it, and
// the call's loop, which empties it. Where the loop is slower the follower
// waits, and so the brokers; after too long a wait the subscription is over.
// It implements [upstream.Sink].
type inbox struct {
	limit    int // bytes held before the follower waits
	patience time.Duration
	ended    <-chan struct{}
	tooSlow  func()
	fixed    bool          // news.start was given, joins do not move it
	news     chan struct{} // holds a token when there is something to take

	mu      sync.Mutex
	pending map[string]struct{} // channels that are not joined yet
	bytes   int
	room    chan struct{} // closed when bytes become less
	content contents
}

// contents is what an inbox holds.
type contents struct {
	start   map[shard.Slot]uint64 // where the subscription begins
	events  []event               // in order
	loss    *loss                 // the only one among the events, or nil
	through map[shard.Slot]uint64 // complete up to here, with the events
}

// event is an entry of a slot, or else a loss.
type event struct {
	slot  shard.Slot
	entry *brokerv1.Entry
	loss  *loss
}

// loss is one or more resyncs. It stands where the first of them was: entries
// of other slots that came before theirs may follow it.
type loss struct {
	channels map[string]struct{}
	at       map[shard.Slot]uint64
}

func newInbox(channels []string, since shard.Since, limit int, patience time.Duration, ended <-chan struct{}, tooSlow func()) *inbox {
	b := &inbox{
		limit: limit, patience: patience, ended: ended, tooSlow: tooSlow,
		news:    make(chan struct{}, 1),
		pending: make(map[string]struct{}, len(channels)),
		room:    make(chan struct{}),
		content: contents{start: map[shard.Slot]uint64{}, through: map[shard.Slot]uint64{}},
	}
	for _, c := range channels {
		b.pending[c] = struct{}{}
	}
	if since.Earliest || since.At != nil {
		b.fixed = true
		maps.Copy(b.content.start, since.At)
	}
	return b
}

// take empties the inbox; false as long as the subscription does not stand.
func (b *inbox) take() (contents, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.pending) > 0 {
		return contents{}, false
	}
	taken := b.content
	b.content = contents{through: map[shard.Slot]uint64{}}
	b.bytes = 0
	close(b.room)
	b.room = make(chan struct{})
	return taken, true
}

// lossy reports whether there is a loss to tell of.
func (b *inbox) lossy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.loss != nil
}

// Entries implements [upstream.Sink].
func (b *inbox) Entries(slot shard.Slot, entries []*brokerv1.Entry) {
	if !b.waitForRoom() {
		return // the subscription ends; its cursor is before these
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		b.content.events = append(b.content.events, event{slot: slot, entry: e})
		b.bytes += len(e.GetData()) + len(e.GetExt()) + len(e.GetChannel()) + eventOverhead
	}
	b.wake()
}

// waitForRoom reports whether there is room before patience or the
// subscription ends.
func (b *inbox) waitForRoom() bool {
	b.mu.Lock()
	room, full := b.room, b.bytes >= b.limit
	b.mu.Unlock()
	if !full {
		return true
	}
	patience := time.NewTimer(b.patience)
	defer patience.Stop()
	select {
	case <-room:
		return true
	case <-patience.C:
		b.tooSlow()
		return false
	case <-b.ended:
		return false
	}
}

// Resync implements [upstream.Sink].
func (b *inbox) Resync(at shard.Position, channels []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.content.loss
	if l == nil {
		l = &loss{channels: map[string]struct{}{}, at: map[shard.Slot]uint64{}}
		b.content.loss = l
		b.content.events = append(b.content.events, event{loss: l})
	}
	l.at[at.Slot] = at.Offset
	for _, c := range channels {
		l.channels[c] = struct{}{}
	}
	b.wake()
}

// Through implements [upstream.Sink].
func (b *inbox) Through(at shard.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.content.through[at.Slot] = max(b.content.through[at.Slot], at.Offset)
}

// Joined implements [upstream.Sink].
func (b *inbox) Joined(channel string, from []shard.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pending, channel)
	for _, p := range from {
		// Of two channels in one slot the earlier position holds for both.
		if at, ok := b.content.start[p.Slot]; !b.fixed && (!ok || p.Offset < at) {
			b.content.start[p.Slot] = p.Offset
		}
	}
	if len(b.pending) == 0 {
		b.wake()
	}
}

func (b *inbox) wake() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}
