package hub

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Subscriber is a session or a plain request as the hub sees it. It is compared
// with ==.
type Subscriber interface {
	comparable
	// Deliver hands over an entry that matches the subscription via.
	Deliver(via string, e *event.Event)
	// Resync says that entries of a subscription are lost. What is handed over
	// of this slot from now on comes after the position.
	Resync(channel string, at shard.Position)
	// Subscribed answers Subscribe. The hub's locks are held: the subscriber
	// must not call the hub before Settle, which follows without locks.
	Subscribed(token uint64, from []shard.Position, err *bayeux.Error)
	Settle()
}

// Config bounds what is kept for those who are not there yet. Zero fields mean
// none.
type Config struct {
	// RingMessages and RingBytes bound the ring of one channel.
	RingMessages int
	RingBytes    int
	// SlotBytes bounds all rings of one slot together.
	SlotBytes int
	// Linger is how long a channel stays joined at least when its last
	// subscriber has left, and Lingering how many of these there are at most:
	// beyond it those that were left first go.
	Linger    time.Duration
	Lingering int
}

// Hub connects subscribers of type S to channels.
type Hub[S Subscriber] struct {
	cfg      Config
	slots    [shard.Slots]slot[S]
	patterns patterns[S]
	dirty    dirty[S]
	linger   lingering[S]
	lossy    atomic.Int32 // slots with losses
}

// slot holds the literal channels of one slot.
type slot[S Subscriber] struct {
	through atomic.Uint64 // what comes is above it; written with mu held
	handed  atomic.Uint64 // through, when its fan-out has ended

	fanout sync.Mutex // held over a whole fan-out; taken before mu
	loans  []loan[S]  // of the fan-out

	mu        sync.Mutex // guards what follows; taken before patterns.mu
	topics    map[string]*topic[S]
	lossy     map[string]uint64 // channels and patterns that lost entries after a position, until Through
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

// Replay returns what the ring of a literal channel has after a position, at
// most limit events, and where to go on; ok is false if it cannot know. A
// channel without subscribers lingers on from here.
func (h *Hub[S]) Replay(channel string, since uint64, limit int) (events []*event.Event, through uint64, ok bool) {
	s := &h.slots[shard.Of(channel)]
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[channel]
	if t == nil || !t.joined || since < t.ring.from {
		return nil, 0, false
	}
	if _, lossy := s.lossy[channel]; lossy {
		return nil, 0, false
	}
	if through = max(t.since, s.through.Load()); since > through {
		return nil, 0, false
	}
	if h.cfg.Linger > 0 {
		h.linger.touch(t)
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
	if len(refused) > 0 && t.idle() {
		h.left(t)
	}
	return refused
}

// Sweep ends the lingering of channels that were left long enough ago. It is to
// be called about once a second.
func (h *Hub[S]) Sweep(now time.Time) {
	for _, t := range h.linger.sweep(now, now.Add(-h.cfg.Linger)) {
		h.dirty.mark(t)
	}
}

// Topics counts the channels and patterns that have subscribers, or had until
// upstream hears of it; without those that linger.
func (h *Hub[S]) Topics() int {
	n := -h.linger.len()
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

// Lingering counts the channels and patterns that linger.
func (h *Hub[S]) Lingering() int { return h.linger.len() }

// place is where topics live: a slot, or the patterns. Its lock is held.
type place[S Subscriber] interface {
	get(channel string) *topic[S]
	put(t *topic[S])
	drop(t *topic[S])
	position(t *topic[S]) []shard.Position
	losses(t *topic[S]) []shard.Position
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
	return []shard.Position{{Slot: shard.Of(t.name), Offset: max(t.since, s.through.Load())}}
}

func (s *slot[S]) resetRing(t *topic[S]) {
	s.ringBytes -= t.ring.bytes
	t.ring.reset(max(t.since, s.through.Load()))
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
