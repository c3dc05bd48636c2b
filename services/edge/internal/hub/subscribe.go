package hub

import (
	"slices"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// Subscribe adds a subscription. It is answered by Subscribed, at once or when
// upstream has joined.
func (h *Hub[S]) Subscribe(now time.Time, sub S, token uint64, channel string) {
	if answered, lost := h.subscribe(now, sub, token, channel); answered {
		h.settle(channel, lost, sub)
	}
}

func (h *Hub[S]) subscribe(now time.Time, sub S, token uint64, channel string) (answered bool, lost []shard.Position) {
	p, unlock := h.lock(channel)
	defer unlock()
	t := p.get(channel)
	if t == nil {
		t = &topic[S]{name: channel}
		p.put(t)
	} else {
		h.linger.remove(t)
	}
	if !t.joined {
		t.waiting = append(t.waiting, waiter[S]{sub, token, now})
		h.dirty.mark(t)
		return false, nil
	}
	t.members.add(sub)
	sub.Subscribed(token, p.position(t), nil)
	return true, p.losses(t)
}

// From returns after which positions a channel that has joined is handed out to
// those who subscribe to it by now: one for a literal channel, one for each slot
// for a pattern, nil if it has not joined. A subscriber that was settled gets
// everything after them, and may get entries at or below them, too.
func (h *Hub[S]) From(channel string) []shard.Position {
	if !bayeux.IsPattern(channel) {
		p, unlock := h.lock(channel)
		defer unlock()
		if t := p.get(channel); t != nil && t.joined {
			return p.position(t)
		}
		return nil
	}
	h.patterns.mu.RLock()
	defer h.patterns.mu.RUnlock()
	t := h.patterns.get(channel)
	if t == nil || !t.joined {
		return nil
	}
	from := make([]shard.Position, shard.Slots)
	for i := range from {
		slot := shard.Slot(i)
		from[i] = shard.Position{Slot: slot, Offset: max(t.after(slot), h.slots[i].through.Load())}
	}
	return from
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
	before := t.idle()
	t.remove(sub)
	for i, w := range t.waiting {
		if w.sub == sub {
			t.waiting = slices.Delete(t.waiting, i, i+1)
			sub.Subscribed(w.token, nil, bayeux.SubscribeFailed())
			answered = true
			break
		}
	}
	if !before && t.idle() {
		h.left(t)
	}
	return answered
}

// left sees to a topic whose last subscriber has left.
func (h *Hub[S]) left(t *topic[S]) {
	if h.cfg.Linger <= 0 {
		h.dirty.mark(t)
	} else if over := h.linger.add(t, h.cfg.Lingering); over != nil {
		h.dirty.mark(over)
	}
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
