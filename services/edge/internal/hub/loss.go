package hub

import (
	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// Resync says that entries of these topics are lost: those up to the position,
// and maybe others before the next Through. It returns how many subscribers
// were told.
func (h *Hub[S]) Resync(at shard.Position, channels []string) int {
	s := &h.slots[at.Slot]
	n := 0
	for _, channel := range channels {
		l, on := h.resync(s, at, channel)
		if l.topic == nil {
			continue
		}
		for _, m := range l.members {
			m.Resync(channel, on)
		}
		n += len(l.members)
		h.giveBack(s, []loan[S]{l})
	}
	return n
}

// resync notes a loss and borrows those who are to be told that the topic goes
// on after a position.
func (h *Hub[S]) resync(s *slot[S], at shard.Position, channel string) (l loan[S], on shard.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p place[S] = s
	if bayeux.IsPattern(channel) {
		p = &h.patterns
		h.patterns.mu.Lock()
		defer h.patterns.mu.Unlock()
	}
	if len(s.lossy) == 0 {
		s.lossy = map[string]uint64{}
		h.lossy.Add(1)
	}
	s.lossy[channel] = max(s.lossy[channel], at.Offset) // for those who come now, too
	t := p.get(channel)
	if t == nil || !t.joined {
		return loan[S]{}, at
	}
	t.lose(at)
	if t.slots == nil {
		s.resetRing(t)
	}
	return t.borrow(), shard.Position{Slot: at.Slot, Offset: max(t.after(at.Slot), s.through.Load())}
}

// losses returns after which positions a pattern goes on where it has just lost
// entries, and who subscribes now cannot know.
func (h *Hub[S]) losses(pattern string) (lost []shard.Position) {
	if h.lossy.Load() == 0 {
		return nil
	}
	for slot := range shard.Slot(shard.Slots) {
		if at, ok := h.loss(slot, pattern); ok {
			lost = append(lost, at)
		}
	}
	return lost
}

func (h *Hub[S]) loss(slot shard.Slot, pattern string) (on shard.Position, ok bool) {
	s := &h.slots[slot]
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.lossy[pattern]
	if !ok {
		return on, false
	}
	h.patterns.mu.RLock()
	defer h.patterns.mu.RUnlock()
	if t := h.patterns.get(pattern); t != nil && t.joined {
		at = max(at, t.after(slot))
	}
	return shard.Position{Slot: slot, Offset: max(at, s.through.Load())}, true
}

// losses returns after which position a channel goes on if it has just lost
// entries, and who subscribes now cannot know.
func (s *slot[S]) losses(t *topic[S]) []shard.Position {
	at, ok := s.lossy[t.name]
	if !ok {
		return nil
	}
	on := s.position(t)
	on[0].Offset = max(on[0].Offset, at)
	return on
}

// losses of a pattern lie in slots, whose locks come first.
func (p *patterns[S]) losses(*topic[S]) []shard.Position { return nil }
