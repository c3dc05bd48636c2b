package hub

import (
	"github.com/comet-push/comet/bayeux"
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
	return n
}

// match borrows the members of the matching topics.
func (h *Hub[S]) match(s *slot[S], e *event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.At.Offset <= s.through {
		return // handed out before
	}
	s.through = e.At.Offset
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

// Through says that nothing of a slot up to the position is still to come.
func (h *Hub[S]) Through(at shard.Position) {
	s := &h.slots[at.Slot]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.through = max(s.through, at.Offset)
}

// Resync says that entries of these topics up to the position are lost. It
// returns how many subscribers were told.
func (h *Hub[S]) Resync(at shard.Position, channels []string) int {
	n := 0
	for _, channel := range channels {
		l := h.resync(at, channel)
		if l.topic == nil {
			continue
		}
		for _, m := range l.members {
			m.Resync(channel)
		}
		n += len(l.members)
		h.giveBack(&h.slots[at.Slot], []loan[S]{l})
	}
	return n
}

func (h *Hub[S]) resync(at shard.Position, channel string) loan[S] {
	p, unlock := h.lock(channel)
	defer unlock()
	t := p.get(channel)
	if t == nil || !t.joined {
		return loan[S]{}
	}
	if s, ok := p.(*slot[S]); ok {
		t.since = max(t.since, at.Offset)
		s.ringBytes -= t.ring.bytes
		t.ring.reset(max(t.since, s.through))
	}
	return t.borrow()
}

// Joined says that upstream hands over everything on a channel that is
// committed after the positions: one for a literal channel, else one a slot.
func (h *Hub[S]) Joined(channel string, from []shard.Position) {
	for _, sub := range h.join(channel, from) {
		sub.Settle()
	}
}

func (h *Hub[S]) join(channel string, from []shard.Position) (answered []S) {
	p, unlock := h.lock(channel)
	defer unlock()
	t := p.get(channel)
	if t == nil || !t.asked || t.joined {
		return nil
	}
	t.joined = true
	if bayeux.IsPattern(channel) {
		t.slots = &[shard.Slots]uint64{}
		for _, f := range from {
			t.slots[f.Slot] = f.Offset
		}
	} else if len(from) > 0 {
		t.since = from[0].Offset
		t.ring.reset(p.position(t)[0].Offset)
	}
	for _, w := range t.waiting {
		t.add(w.sub)
		w.sub.Subscribed(w.token, p.position(t), nil)
		answered = append(answered, w.sub)
	}
	t.waiting = nil
	h.dirty.joined(t)
	return answered
}
