package session

import (
	"slices"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// Sent is what one answer to a connect brought to a client that has the ack
// extension: after it the client is past these places.
type Sent struct {
	// Batch is the number of the answer.
	Batch uint32
	// Through is by slot, of what was pushed.
	Through []shard.Position
	// Read is by channel, of what was read from history.
	Read []Place
}

// Place is an offset of a channel.
type Place struct {
	Channel string
	Offset  uint64
}

// noteSent notes what was sent and is not acknowledged, by batch.
func (s *Session) noteSent(snap *Snapshot) {
	if s.regain != nil {
		snap.Sent = slices.Clone(s.regain.earlier)
	}
	for _, i := range s.log {
		at := i.event.At
		if i.batch == 0 || at.Offset == 0 {
			continue
		}
		sent := snap.sentWith(i.batch)
		if s.reader(i.event) == nil {
			sent.through(at)
		}
		if sub := s.find(i.event.Channel); sub != nil && sub.past != nil {
			sent.read(sub.channel, at.Offset) // it may go back to where it read before
		}
	}
}

// sentWith returns what is noted of a batch; they come in order.
func (snap *Snapshot) sentWith(batch uint32) *Sent {
	if n := len(snap.Sent); n == 0 || snap.Sent[n-1].Batch != batch {
		snap.Sent = append(snap.Sent, Sent{Batch: batch})
	}
	return &snap.Sent[len(snap.Sent)-1]
}

func (x *Sent) through(at shard.Position) {
	i := slices.IndexFunc(x.Through, func(p shard.Position) bool { return p.Slot == at.Slot })
	if i < 0 {
		x.Through = append(x.Through, at)
		return
	}
	x.Through[i].Offset = max(x.Through[i].Offset, at.Offset)
}

func (x *Sent) read(channel string, offset uint64) {
	i := slices.IndexFunc(x.Read, func(p Place) bool { return p.Channel == channel })
	if i < 0 {
		x.Read = append(x.Read, Place{channel, offset})
		return
	}
	x.Read[i].Offset = max(x.Read[i].Offset, offset)
}

// acknowledgeEarlier takes the first ack that a session hears since it went on
// here: what batches up to it brought in its life before does not come again.
func (s *Session) acknowledgeEarlier(batch int64, out *Effects) {
	if s.regain == nil || s.regain.earlier == nil {
		return
	}
	earlier := s.regain.earlier
	s.regain.earlier = nil
	for _, sent := range earlier {
		if int64(sent.Batch) > batch {
			break
		}
		for _, p := range sent.Read {
			s.passChannel(p)
		}
		for _, p := range sent.Through {
			s.passSlot(p)
		}
	}
	s.advanceSlots()
	s.pump(out)
}

// Overtaken reports whether a connect acknowledges an answer that was not made
// here: the session lives elsewhere, in a later generation.
func (s *Session) Overtaken(messages []bayeux.Message) bool {
	if !s.ack || s.unsure || s.ended() {
		return false
	}
	return slices.ContainsFunc(messages, func(m bayeux.Message) bool {
		batch, ok := bayeux.AckBatch(m.Ext)
		return ok && batch > int64(s.batch) && s.isConnect(&m)
	})
}

// passSlot lets go of what came through a slot up to a place.
func (s *Session) passSlot(at shard.Position) {
	given := s.got(at.Slot)
	if i, known := s.slot(at.Slot); known {
		s.seen[i].Offset = max(s.seen[i].Offset, at.Offset)
		s.missed(s.seen[i])
	}
	s.discard(func(i item) bool {
		e := i.event
		sub := s.find(e.Channel) // one that reads has places of its own
		return e.At.Slot == at.Slot && 0 < e.At.Offset && e.At.Offset <= at.Offset && (sub == nil || sub.past == nil)
	})
	for _, sub := range s.subs {
		if sub.past != nil && shard.Of(sub.channel) == at.Slot {
			s.readUpTo(sub, given, at.Offset)
		}
	}
}

// readUpTo has a subscription that reads history read up to a place: it may not
// have, when others were given what came through its slot. If it does not read any
// more it has all that was given of the slot here.
func (s *Session) readUpTo(sub *subscription, given, through uint64) {
	p := sub.past
	if p.done {
		p.cursor = max(p.cursor, given)
	}
	if p.cursor >= through {
		return
	}
	if p.done {
		p.done = false
		s.catching++
	}
	p.target = max(p.target, through)
	if p.withheld == 0 {
		p.withheld = p.cursor + 1
	}
}

// passChannel lets go of what a subscription was given of its channel up to a
// place.
func (s *Session) passChannel(at Place) {
	sub := s.find(at.Channel)
	if sub == nil {
		return
	}
	s.discard(func(i item) bool {
		e := i.event
		return e.Channel == at.Channel && 0 < e.At.Offset && e.At.Offset <= at.Offset
	})
	p := sub.past
	if p != nil {
		p.cursor = max(p.cursor, at.Offset)
	}
	switch {
	case p == nil || p.done:
		sub.start = max(sub.start, at.Offset)
	case p.cursor >= p.target && sub.state == active:
		s.live(sub)
		fallthrough
	default:
		p.earliest = false
	}
}
