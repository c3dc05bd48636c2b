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
	t := p.get(channel)
	if t == nil {
		return loan[S]{}, at
	}
	if len(s.lossy) == 0 {
		s.lossy = map[string]uint64{}
		h.lossy.Add(1)
	}
	s.lossy[channel] = max(s.lossy[channel], at.Offset)
	if !t.joined {
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
	for i := range h.slots {
		s := &h.slots[i]
		s.mu.Lock()
		if at, ok := s.loss(pattern); ok {
			lost = append(lost, shard.Position{Slot: shard.Slot(i), Offset: at})
		}
		s.mu.Unlock()
	}
	return lost
}

func (s *slot[S]) loss(channel string) (after uint64, ok bool) {
	at, ok := s.lossy[channel]
	return max(at, s.through.Load()), ok
}

// Joined says that upstream hands over everything on a channel that is
// committed after the positions: one for a literal channel, else one a slot.
func (h *Hub[S]) Joined(channel string, from []shard.Position) {
	answered, lost := h.join(channel, from)
	h.settle(channel, lost, answered...)
}

func (h *Hub[S]) join(channel string, from []shard.Position) (answered []S, lost []shard.Position) {
	p, unlock := h.lock(channel)
	defer unlock()
	t := p.get(channel)
	if t == nil || !t.asked || t.joined {
		return nil, nil
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
		t.members.add(w.sub)
		w.sub.Subscribed(w.token, p.position(t), nil)
		answered = append(answered, w.sub)
	}
	t.waiting = nil
	h.dirty.joined(t)
	return answered, p.losses(t)
}

// settle ends the subscribing of those who were told Subscribed.
func (h *Hub[S]) settle(channel string, lost []shard.Position, subs ...S) {
	if bayeux.IsPattern(channel) {
		lost = h.losses(channel) // before anybody calls From
	}
	for _, sub := range subs {
		for _, at := range lost {
			sub.Resync(channel, at)
		}
		sub.Settle()
	}
}
