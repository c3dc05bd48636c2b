// Package hub knows which sessions of this edge want which channels, and hands
// every entry to those that do.
//
//  1. An entry reaches each subscriber once for each of its matching
//     subscriptions (a session drops the copies: only it knows which of them
//     still stand); entries of a slot in the order of their offsets.
//  2. A subscriber is told Subscribed before the first entry after the position
//     it was told, and then gets all of them, or Resync.
//  3. A channel is wanted from upstream while it has subscribers. A subscriber
//     of a channel that has already joined is confirmed at once.
//  4. A ring holds what was handed out of a channel in the interval (from,
//     through] without a hole; it lives while the channel is joined and is
//     bounded in messages and bytes, per channel and per slot.
//  5. Fan-out to one more subscriber allocates nothing, and holds no lock that
//     subscribing needs.
//
// The hub starts nothing and reads no clock. Upstream it is driven by Joined,
// Entries, Through and Resync, of which those for one slot must not overlap;
// what it wants there is read from Changes.
package hub

import (
	"slices"
	"sync"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Subscriber is a session as the hub sees it. It is compared with ==.
type Subscriber interface {
	comparable
	// Deliver hands over an entry that matches the subscription via.
	Deliver(via string, e *event.Event)
	// Resync says that entries of a subscription are lost.
	Resync(channel string)
	// Subscribed answers Subscribe. The hub's locks are held: the subscriber
	// must not call the hub before Settle, which follows without locks.
	Subscribed(token uint64, from []shard.Position, err *bayeux.Error)
	Settle()
}

// Config bounds the rings. Zero fields mean none.
type Config struct {
	// RingMessages and RingBytes bound the ring of one channel.
	RingMessages int
	RingBytes    int
	// SlotBytes bounds all rings of one slot together.
	SlotBytes int
}

// Hub connects subscribers of type S to channels.
type Hub[S Subscriber] struct {
	cfg      Config
	slots    [shard.Slots]slot[S]
	patterns patterns[S]
	dirty    dirty[S]
}

// slot holds the literal channels of one slot.
type slot[S Subscriber] struct {
	fanout sync.Mutex // held over a whole fan-out; taken before mu
	loans  []loan[S]  // of the fan-out

	mu        sync.Mutex // guards what follows; taken before patterns.mu
	topics    map[string]*topic[S]
	through   uint64
	ringBytes int
}

// patterns holds the patterns, of all slots.
type patterns[S Subscriber] struct {
	mu   sync.RWMutex // guards tree and every topic in it
	tree bayeux.Tree[*topic[S]]
}

// New returns an empty hub.
func New[S Subscriber](cfg Config) *Hub[S] {
	h := &Hub[S]{cfg: cfg}
	h.dirty.signal = make(chan struct{}, 1)
	return h
}

// Subscribe adds a subscription. It is answered by Subscribed, at once or when
// upstream has joined.
func (h *Hub[S]) Subscribe(now time.Time, sub S, token uint64, channel string) {
	if h.subscribe(now, sub, token, channel) {
		sub.Settle()
	}
}

func (h *Hub[S]) subscribe(now time.Time, sub S, token uint64, channel string) (answered bool) {
	p, unlock := h.lock(channel)
	defer unlock()
	t := p.get(channel)
	if t == nil {
		t = &topic[S]{name: channel}
		p.put(t)
	}
	if !t.joined {
		t.waiting = append(t.waiting, waiter[S]{sub, token, now})
		h.dirty.mark(t)
		return false
	}
	t.add(sub)
	sub.Subscribed(token, p.position(t), nil)
	return true
}

// Unsubscribe ends a subscription; one that is not yet confirmed is answered
// with an error.
func (h *Hub[S]) Unsubscribe(sub S, channel string) {
	if h.unsubscribe(sub, channel) {
		sub.Settle()
	}
}

func (h *Hub[S]) unsubscribe(sub S, channel string) (answered bool) {
	p, unlock := h.lock(channel)
	defer unlock()
	t := p.get(channel)
	if t == nil {
		return false
	}
	t.remove(sub)
	for i, w := range t.waiting {
		if w.sub == sub {
			t.waiting = slices.Delete(t.waiting, i, i+1)
			sub.Subscribed(w.token, nil, bayeux.SubscribeFailed())
			answered = true
			break
		}
	}
	if t.idle() {
		h.dirty.mark(t)
	}
	return answered
}

// Replay returns what the ring of a literal channel has after a position, at
// most limit events, and where to go on; ok is false if it cannot know.
func (h *Hub[S]) Replay(channel string, since uint64, limit int) (events []*event.Event, through uint64, ok bool) {
	s := &h.slots[shard.Of(channel)]
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[channel]
	if t == nil || !t.joined || since < t.ring.from {
		return nil, 0, false
	}
	if through = max(t.since, s.through); since > through {
		return nil, 0, false
	}
	events, more := t.ring.after(since, limit)
	if more {
		through = events[len(events)-1].At.Offset
	}
	return events, through, true
}

// Expire refuses subscribers that wait since before the given time for upstream
// to join.
func (h *Hub[S]) Expire(before time.Time) {
	for _, t := range h.dirty.waiting() {
		for _, sub := range h.expire(t, before) {
			sub.Settle()
		}
	}
}

func (h *Hub[S]) expire(t *topic[S], before time.Time) (refused []S) {
	_, unlock := h.lock(t.name)
	defer unlock()
	t.waiting = slices.DeleteFunc(t.waiting, func(w waiter[S]) bool {
		if !w.since.Before(before) {
			return false
		}
		w.sub.Subscribed(w.token, nil, bayeux.Unavailable())
		refused = append(refused, w.sub)
		return true
	})
	if t.idle() {
		h.dirty.mark(t)
	}
	return refused
}

// Topics counts the channels and patterns with subscribers.
func (h *Hub[S]) Topics() int {
	n := 0
	for i := range h.slots {
		s := &h.slots[i]
		s.mu.Lock()
		n += len(s.topics)
		s.mu.Unlock()
	}
	h.patterns.mu.RLock()
	defer h.patterns.mu.RUnlock()
	return n + h.patterns.tree.Len()
}

// place is where topics live: a slot, or the patterns. Its lock is held.
type place[S Subscriber] interface {
	get(channel string) *topic[S]
	put(t *topic[S])
	drop(t *topic[S])
	position(t *topic[S]) []shard.Position
}

// lock returns where a channel lives, locked.
func (h *Hub[S]) lock(channel string) (place[S], func()) {
	if bayeux.IsPattern(channel) {
		h.patterns.mu.Lock()
		return &h.patterns, h.patterns.mu.Unlock
	}
	s := &h.slots[shard.Of(channel)]
	s.mu.Lock()
	return s, s.mu.Unlock
}

func (s *slot[S]) get(channel string) *topic[S] { return s.topics[channel] }

func (s *slot[S]) put(t *topic[S]) {
	if s.topics == nil {
		s.topics = map[string]*topic[S]{}
	}
	s.topics[t.name] = t
}

func (s *slot[S]) drop(t *topic[S]) {
	s.ringBytes -= t.ring.bytes
	delete(s.topics, t.name)
}

func (s *slot[S]) position(t *topic[S]) []shard.Position {
	return []shard.Position{{Slot: shard.Of(t.name), Offset: max(t.since, s.through)}}
}

func (p *patterns[S]) get(channel string) *topic[S] {
	t, _ := p.tree.Get(channel)
	return t
}

func (p *patterns[S]) put(t *topic[S]) { p.tree.Add(t.name, t) }

func (p *patterns[S]) drop(t *topic[S]) { p.tree.Remove(t.name) }

// position of a pattern is none: what comes before Subscribed is not handed
// out through it, and 256 numbers for each subscriber are too many.
func (p *patterns[S]) position(*topic[S]) []shard.Position { return nil }
