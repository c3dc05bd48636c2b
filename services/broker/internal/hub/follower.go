package hub

import (
	"errors"
	"sync/atomic"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// MaxInterests bounds the interests of one follower.
const MaxInterests = 1 << 20

// The ways a follower breaks the protocol; its stream should be ended.
var (
	ErrSlotInvalid      = errors.New("no such slot")
	ErrInterestInvalid  = errors.New("interest is not a channel or pattern")
	ErrInterestReused   = errors.New("interest number in use for another channel")
	ErrTooManyInterests = errors.New("too many interests")
)

// Follower is one stream that follows slots.
type Follower struct {
	outbox
	hub    *Hub
	places [shard.Slots]atomic.Pointer[place] // set by the stream's goroutine

	// of the stream's goroutine
	byID     map[uint64]*interest
	literals map[string]*interest
	patterns bayeux.Tree[*interest]
}

// Attach returns a follower with a byte credit and no slots. Close it.
func (h *Hub) Attach(credit uint64) *Follower {
	f := &Follower{
		outbox:   outbox{ready: make(chan struct{}, 1)},
		hub:      h,
		byID:     make(map[uint64]*interest),
		literals: make(map[string]*interest),
	}
	f.Grant(credit)
	return f
}

// Start says where a follower begins in a slot.
type Start struct {
	// Given: after Since, by pulling. Otherwise the slot is pushed from its end.
	Given bool
	Since uint64
	// Earliest, with Given: what is retained after Since, without a resync for
	// what is gone by now.
	Earliest bool
	// Copy: a copy will do, if it follows the primary of this term; 0: it will
	// not.
	Copy uint64
}

// Open follows a slot, or starts over in one it follows. It is answered by
// Opened, and Lag if start is given; or by Moved, also where a copy will not do,
// and where it is not sure that a position beyond the log is lost.
func (f *Follower) Open(n shard.Slot, start Start) error {
	if n >= shard.Slots {
		return ErrSlotInvalid
	}
	s := f.hub.slots[n].Load()
	if s == nil {
		f.moved(n)
		return nil
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	p := f.places[n].Load()
	switch {
	case s.removed.Load():
		f.moved(n)
		return nil
	case s.copy && start.Copy != s.log.Term(), start.Given && start.Since > s.log.End() && !s.log.Surely():
		if p != nil && p.slot == s {
			p.remove()
		}
		f.moved(n)
		return nil
	}
	if p == nil || p.slot != s {
		f.forget(p)
		p = &place{follower: f, slot: s, literals: make(map[*interest]struct{})}
		s.places[p] = struct{}{}
		f.places[n].Store(p)
	}
	p.open(start)
	return nil
}

func (p *place) open(start Start) {
	log := p.slot.log
	through, base := log.Committed(), log.Base()
	opened := Opened{p.slot.number, log.Term(), base, through, false}
	p.reset, p.fresh, p.seen = false, start.Given, 0
	if !start.Given {
		p.pushed, p.sent, p.marked = true, through, through
		p.follower.frame(opened)
		return
	}
	position := start.Since
	if position < base || position > log.End() {
		position = base
		p.reset = !start.Earliest
	}
	if start.Earliest {
		p.seen = log.History().Drops()
	}
	for in := range p.literals {
		in.start = 0
	}
	opened.Reset = p.reset
	p.follower.frame(opened)
	p.lag(position)
}

// Join adds an interest, or gives the one of that name another number. It is
// answered by Joined; for a literal channel of a slot that is not open by Moved.
func (f *Follower) Join(id uint64, channel string) error {
	if !bayeux.ValidChannel(channel) || bayeux.IsMeta(channel) {
		return ErrInterestInvalid
	}
	if old, ok := f.byID[id]; ok {
		if old.place != nil && old.place.slot.removed.Load() {
			f.forget(old.place)
		} else if old.channel != channel {
			return ErrInterestReused
		}
	}
	if bayeux.IsPattern(channel) {
		return f.joinPattern(id, channel)
	}
	return f.joinLiteral(id, channel)
}

func (f *Follower) joinLiteral(id uint64, channel string) error {
	n := shard.Of(channel)
	p := f.places[n].Load()
	if p == nil {
		f.moved(n)
		return nil
	}
	s := p.slot
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.removed.Load() {
		// The follower may not have read Moved when it sent this; it must not
		// take the answer for one to an Open that is already on its way.
		f.frame(Moved{n, s.gone})
		return nil
	}
	in := f.literals[channel]
	if in == nil {
		if len(f.byID) >= MaxInterests {
			return ErrTooManyInterests
		}
		in = &interest{channel: channel, follower: f, place: p}
		if !p.pushed && !p.fresh {
			in.start = s.log.Committed()
		}
		f.literals[channel] = in
		p.literals[in] = struct{}{}
		if s.literals[channel] == nil {
			s.literals[channel] = &fans{}
		}
		s.literals[channel].add(in)
	}
	f.number(in, id)
	f.frame(Joined{id, []shard.Position{{Slot: n, Offset: s.log.Committed()}}})
	return nil
}

func (f *Follower) joinPattern(id uint64, channel string) error {
	// The answer's place comes before the entries that joining brings.
	answer := f.frame(Joined{ID: id})
	in, ok := f.patterns.Get(channel)
	if !ok {
		if len(f.byID) >= MaxInterests {
			return ErrTooManyInterests
		}
		in = &interest{channel: channel, follower: f}
		f.patterns.Add(channel, in)
		f.hub.join(in)
	}
	f.number(in, id)
	var positions []shard.Position
	for n := range shard.Slot(shard.Slots) {
		if p := f.places[n].Load(); p != nil {
			if at, ok := p.committed(); ok {
				positions = append(positions, shard.Position{Slot: n, Offset: at})
			}
		}
	}
	f.replace(answer, Joined{id, positions})
	return nil
}

func (f *Follower) number(in *interest, id uint64) {
	if f.byID[in.id] == in {
		delete(f.byID, in.id)
	}
	in.id = id
	f.byID[id] = in
}

func (p *place) committed() (uint64, bool) {
	p.slot.lock.Lock()
	defer p.slot.lock.Unlock()
	return p.slot.log.Committed(), !p.slot.removed.Load()
}

func (h *Hub) join(in *interest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.patterns.Get(in.channel)
	if !ok {
		f = &fans{}
		h.patterns.Add(in.channel, f)
	}
	f.add(in)
}
