package session

import (
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// past is a subscription that reads history: a cursor. Until it has reached
// what is pushed, entries that are pushed meanwhile are not kept but read like
// all before them, so nothing is buffered, and nothing comes twice or out of
// order.
type past struct {
	token    uint64 // of the Replay that is asked for, or 0
	base     uint64 // it does not read entries up to here
	cursor   uint64 // it has read entries up to here
	target   uint64 // entries up to here are not pushed, or were withheld
	withheld uint64 // the first entry that was pushed and is to be read instead, or 0
	from, to uint64 // entries in (from, to] came through older subscriptions
	earliest bool   // all that is retained is to be read, so base is not known yet
	gap      bool   // entries that were to be pushed are lost; to be told
	done     bool   // entries after the cursor are pushed
}

// passes reports whether an entry of the channel that was pushed is to be
// delivered, and notes those that are withheld.
func (p *past) passes(offset uint64) bool {
	switch {
	case offset <= p.base:
		return true
	case p.done:
		return offset > p.cursor
	}
	p.withhold(offset)
	return false
}

// withhold notes an entry that was pushed and will be read instead.
func (p *past) withhold(offset uint64) {
	p.target = max(p.target, offset)
	if p.withheld == 0 {
		p.withheld = offset
	}
}

// begin sets the base of one that reads all that is retained, and reports
// whether an entry is gone that was withheld because it was to be read.
func (p *past) begin(page Page) (lost bool) {
	p.earliest = false
	p.base = page.Through
	if len(page.Events) > 0 {
		p.base = page.Events[0].At.Offset - 1
	}
	p.cursor = p.base
	return p.withheld != 0 && p.withheld <= p.base
}

// probe begins to read history.
func (s *Session) probe(sub *subscription, out *Effects) {
	sub.state = probing
	sub.past = &past{target: sub.start}
	if sub.pending.since == bayeux.ReplayRetained {
		sub.past.earliest = true
	} else {
		sub.past.base = uint64(max(sub.pending.since, 0))
		sub.past.cursor = sub.past.base
	}
	s.catching++
	s.ask(sub, out)
}

// overlap notes what older subscriptions have delivered when a subscription
// that reads history becomes active.
func (s *Session) overlap(sub *subscription) {
	slot := shard.Of(sub.channel)
	i, known := s.slot(slot)
	if !known {
		return
	}
	s.matching(sub.channel, func(older *subscription) {
		start := older.startIn(slot)
		if older.gap || start == 0 && bayeux.IsPattern(older.channel) {
			return // the client may ask for history because of it; or it is not known what it delivered
		}
		if sub.past.to == 0 || start < sub.past.from {
			sub.past.from = start
		}
		sub.past.to = s.seen[i].Offset
	})
}

// ask asks for the next page.
func (s *Session) ask(sub *subscription, out *Effects) {
	p := sub.past
	p.token = s.nextToken()
	out.Replays = append(out.Replays, Replay{
		Token: p.token, Slot: shard.Of(sub.channel), Channels: []string{sub.channel},
		Since: p.cursor, Earliest: p.earliest, Through: p.target, Limit: max(1, s.room()),
	})
}

// room is how many events of history the queue takes: half of it is left to
// what is pushed.
func (s *Session) room() int { return s.cfg.QueueMessages/2 - int(s.fresh.events) }

// pump asks for more history where there is room for it.
func (s *Session) pump(out *Effects) {
	if s.catching == 0 && s.regain == nil || s.room() <= 0 || int(s.fresh.bytes) >= s.cfg.QueueBytes/2 {
		return
	}
	s.pumpSlots(out)
	for _, sub := range s.subs {
		if p := sub.past; p != nil && !p.done && p.token == 0 && sub.state == active {
			s.ask(sub, out)
		}
	}
}

// Replayed answers a Replay: err, or a page.
func (s *Session) Replayed(now time.Time, token uint64, page Page, err *bayeux.Error, out *Effects) {
	if s.replayedSlot(now, token, page, err, out) {
		return
	}
	var sub *subscription
	for _, each := range s.subs {
		if each.past != nil && each.past.token == token {
			sub = each
		}
	}
	if sub == nil {
		return
	}
	if err == nil && len(page.Lost) > 0 {
		err = bayeux.ReplayLost(sub.channel)
	}
	switch {
	case err != nil && sub.state == probing:
		s.failSubscription(now, sub, err, true, out)
		return
	case err != nil:
		s.breakOff(sub, page.Through)
	default:
		if sub.state == probing {
			s.becomeReady(now, sub, out)
		}
		sub.past.token = 0
		if sub.state == active && s.find(sub.channel) == sub {
			s.absorb(sub, page, out)
		} // else it is read again when the other channels of its message are ready
	}
	s.release(now, out)
	s.pump(out)
}

// absorb queues a page as far as there is room.
func (s *Session) absorb(sub *subscription, page Page, out *Effects) {
	p, before := sub.past, sub.past.cursor
	if p.earliest && p.begin(page) || p.gap {
		p.gap = false
		s.notice(sub.channel)
	}
	for _, e := range page.Events {
		switch {
		case e.At.Offset <= p.cursor:
			continue
		case e.At.Offset > p.from && e.At.Offset <= p.to:
		case s.fresh.events > 0 && (s.room() <= 0 || int(s.fresh.bytes)+e.Size() > s.cfg.QueueBytes/2):
			return // the rest is read again later
		default:
			s.enqueue(item{event: e}, out)
		}
		p.cursor = e.At.Offset
	}
	p.cursor = max(p.cursor, page.Through)
	switch {
	case p.cursor >= p.target:
		s.live(sub)
	case p.cursor == before:
		s.breakOff(sub, 0) // a page that leads nowhere; asking again would spin
	}
}

// breakOff gives up history that is lost: the client is told.
func (s *Session) breakOff(sub *subscription, through uint64) {
	sub.past.cursor = max(sub.past.cursor, sub.past.target, through)
	s.live(sub)
	s.notice(sub.channel)
}

// live ends the reading of history.
func (s *Session) live(sub *subscription) {
	sub.past.done, sub.past.token = true, 0
	sub.start = sub.past.cursor
	s.catching--
}
