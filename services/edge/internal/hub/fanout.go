package hub

import (
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Entry hands a committed entry to everybody who wants it and returns how many
// deliveries that were. Entries of a slot come in the order of their offsets.
func (h *Hub[S]) Entry(e *event.Event) int {
	s := &h.slots[e.At.Slot]
	s.fanout.Lock()
	defer s.fanout.Unlock()

	h.match(s, e)
	n := 0
	for _, l := range s.loans {
		for _, m := range l.members {
			m.Deliver(l.topic.name, e)
		}
		n += len(l.members)
	}
	h.giveBack(s, s.loans)
	clear(s.loans) // hold on to nobody
	s.loans = s.loans[:0]
	s.handed.Store(s.through.Load())
	return n
}

// match borrows the members of the matching topics. First it moves the slot's
// position: who subscribes later is not among them, but is told the new one.
func (h *Hub[S]) match(s *slot[S], e *event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.At.Offset <= s.through.Load() {
		return // handed out before
	}
	s.through.Store(e.At.Offset)
	if t := s.topics[e.Channel]; t != nil && t.joined && !t.passed(e.At) {
		s.ringBytes += t.ring.push(e, &h.cfg, h.cfg.SlotBytes-s.ringBytes)
		s.loans = append(s.loans, t.borrow())
	}
	h.patterns.mu.RLock()
	defer h.patterns.mu.RUnlock()
	h.patterns.tree.Match(e.Channel, func(t *topic[S]) {
		if t.joined && !t.passed(e.At) {
			s.loans = append(s.loans, t.borrow())
		}
	})
}

func (h *Hub[S]) giveBack(s *slot[S], loans []loan[S]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.patterns.mu.RLock()
	defer h.patterns.mu.RUnlock()
	for _, l := range loans {
		l.topic.giveBack(l)
	}
}

// Through says that nothing of a slot up to the position is still to come, and
// that what Resync said to be lost lies before it.
func (h *Hub[S]) Through(at shard.Position) {
	s := &h.slots[at.Slot]
	s.mu.Lock()
	defer s.mu.Unlock()
	through := max(s.through.Load(), at.Offset)
	s.through.Store(through)
	s.handed.Store(through)
	if len(s.lossy) == 0 {
		return
	}
	for channel := range s.lossy {
		if t := s.topics[channel]; t != nil {
			s.resetRing(t) // it has a hole
		}
	}
	s.lossy = nil
	h.lossy.Add(-1)
}

// Handed returns up to where every entry of a slot was handed to all its
// subscribers: their Deliver has returned. A subscriber that began at a
// position, has what it wants up to that, and was not told Resync, has had
// everything up to the higher one of the two:
//
//   - An entry between them is above the position, so it was matched after the
//     subscriber was there (match moves the position first, and looks for
//     members after that), and the subscriber was among its members. That is so
//     for the position that Subscribed told, which is read while subscribing,
//     and for one that From returned later.
//   - Handed moves when the fan-out of an entry has ended, and entries of a
//     slot are handed out one after the other; so Deliver of that entry and all
//     before it has returned when Handed is read. Entries that are being handed
//     out are above it.
//   - What is lost never comes below it untold: Resync tells all members before
//     upstream goes on, and subscribing tells those who come later.
//
// It is 0 while nothing is known of the slot, and never goes back. It takes no
// lock; one may call it for every slot, and while a subscriber's lock is held.
func (h *Hub[S]) Handed(slot shard.Slot) uint64 { return h.slots[slot].handed.Load() }
