package hub

import "github.com/comet-push/comet/internal/shard"

// Leave removes an interest. Entries sent before may still be taken; numbers
// that are not in use are ignored.
func (f *Follower) Leave(id uint64) {
	in, ok := f.byID[id]
	if !ok {
		return
	}
	delete(f.byID, id)
	if in.place == nil {
		f.patterns.Remove(in.channel)
		f.hub.leave(in)
		return
	}
	delete(f.literals, in.channel)
	in.place.leave(in)
}

// Shut ends following a slot, with its literal interests. What was sent before
// may still be taken.
func (f *Follower) Shut(n shard.Slot) error {
	if n >= shard.Slots {
		return ErrSlotInvalid
	}
	p := f.places[n].Load()
	if p == nil {
		return nil
	}
	p.slot.lock.Lock()
	defer p.slot.lock.Unlock()
	p.remove()
	f.forget(p)
	return nil
}

// Close forgets the follower.
func (f *Follower) Close() {
	for id := range f.byID {
		f.Leave(id)
	}
	for n := range f.places {
		if p := f.places[n].Swap(nil); p != nil {
			p.close()
		}
	}
}

// moved answers a command for a slot that is not served here.
func (f *Follower) moved(n shard.Slot) {
	f.forget(f.places[n].Load())
	f.frame(Moved{n, f.hub.version(n)})
}

// forget drops what is known of a place whose slot was removed.
func (f *Follower) forget(p *place) {
	if p == nil {
		return
	}
	for in := range p.literals {
		delete(f.byID, in.id)
		delete(f.literals, in.channel)
	}
	f.places[p.slot.number].CompareAndSwap(p, nil)
}

func (p *place) leave(in *interest) {
	s := p.slot
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(p.literals, in)
	if f := s.literals[in.channel]; f != nil && f.remove(in) {
		delete(s.literals, in.channel)
	}
}

// remove takes a place with its interests from its slot, whose lock is held.
func (p *place) remove() {
	s := p.slot
	for in := range p.literals {
		if f := s.literals[in.channel]; f != nil && f.remove(in) {
			delete(s.literals, in.channel)
		}
	}
	delete(s.places, p)
}

func (p *place) close() {
	p.slot.lock.Lock()
	defer p.slot.lock.Unlock()
	delete(p.slot.places, p)
}

func (h *Hub) leave(in *interest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f, ok := h.patterns.Get(in.channel); ok && f.remove(in) {
		h.patterns.Remove(in.channel)
	}
}
