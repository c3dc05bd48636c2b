package hub

import (
	"slices"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// pullStep is how many entries a pull looks at before it lets go of the slot's
// lock for a moment.
const pullStep = 2048

// Pull sends what comes after a slot's position, for all interests: Resync if
// some of it is gone, entries within credit, and Resumed at the end of the log
// or Lag where credit ran out. A slot that is not open is left alone: its Moved
// is on the way.
func (f *Follower) Pull(n shard.Slot) error {
	if n >= shard.Slots {
		return ErrSlotInvalid
	}
	for p := f.places[n].Load(); p != nil && p.pull(); {
	}
	return nil
}

// pull does one step and reports whether there is more to do.
func (p *place) pull() bool {
	s := p.slot
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.removed.Load() {
		return false
	}
	if p.pushed {
		p.resume(max(p.sent, s.log.Committed()))
		return false
	}
	p.fresh = false
	p.check()
	steps := 0
	for e := range s.log.History().After(p.sent) {
		if steps++; steps > pullStep {
			p.sent = e.Offset() - 1
			return true
		}
		if !p.follower.wants(e.Channel(), e.Offset()) {
			continue
		}
		if !p.follower.send(s.number, e.Entry()) {
			p.lag(e.Offset() - 1)
			return false
		}
		p.sent = e.Offset()
	}
	p.resume(max(p.sent, s.log.Committed()))
	return false
}

func (f *Follower) wants(channel string, offset uint64) bool {
	if in := f.literals[channel]; in != nil && offset > in.start {
		return true
	}
	wanted := false
	f.patterns.Match(channel, func(*interest) { wanted = true })
	return wanted
}

// check tells which interests have lost entries after the place's position
// since the last check.
func (p *place) check() {
	past := p.slot.log.History()
	if !p.reset && past.Intact(p.sent, p.seen) {
		return
	}
	var lost []uint64
	for in := range p.literals {
		if p.reset || past.Lost(in.channel, max(p.sent, in.start), p.seen) {
			lost = append(lost, in.id)
		}
	}
	lost = p.checkPatterns(past, lost)
	p.reset, p.seen = false, past.Drops()
	if len(lost) > 0 {
		slices.Sort(lost)
		p.follower.frame(Resync{p.slot.number, lost, p.sent})
	}
}

func (p *place) checkPatterns(past *history.History, lost []uint64) []uint64 {
	patterns := &p.follower.patterns
	if patterns.Len() == 0 {
		return lost
	}
	all := p.reset || past.Gaps(p.sent, p.seen, func(channel string) {
		patterns.Match(channel, func(in *interest) { in.lost = true })
	})
	for _, in := range patterns.All() {
		if all || in.lost {
			lost = append(lost, in.id)
		}
		in.lost = false
	}
	return lost
}

// Marks sends the marks of the pushed slots; it is to be called once per
// heartbeat, and answers even if none has moved.
func (f *Follower) Marks() {
	var marks Marks
	for n := range f.places {
		if p := f.places[n].Load(); p != nil {
			p.mark(&marks)
		}
	}
	f.frame(marks)
}

func (p *place) mark(marks *Marks) {
	s := p.slot
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.removed.Load() || !p.pushed {
		return
	}
	if !s.log.Fresh() {
		marks.Stale = append(marks.Stale, s.number)
		return
	}
	if commit := s.log.Committed(); commit >= p.sent && commit > p.marked {
		p.marked = commit
		marks.Moved = append(marks.Moved, Mark{s.number, s.log.Term(), commit, s.hub.version(s.number)})
	}
}
