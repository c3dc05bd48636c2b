package session

import (
	"slices"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// regain is what a session has to do before it is again where it was on another
// edge: its subscriptions have to be joined, and what came in their slots
// meanwhile has to be read. Up to where it was given a slot Session.seen says.
// What is pushed of a slot that is behind is not kept, but read like all before
// it, so nothing is buffered, and nothing comes twice or out of order.
type regain struct {
	joins    []rejoin // not answered, by token
	patterns int      // of them that are patterns
	slots    []behind // in order
	earlier  []Sent   // in the life before, until the first ack says what of it has arrived
	full     int32    // events that waited when there was no room for more, 0: there was
}

// rejoin is a subscription whose Interest is not answered.
type rejoin struct {
	token uint64
	sub   *subscription
}

// behind is a slot of which not all was given that was not pushed.
type behind struct {
	slot   shard.Slot // Session.seen has it
	waits  int        // literal channels of it that are not joined
	target uint64     // entries up to here are not pushed, or were withheld
	token  uint64     // of the Replay that is asked for, or 0
}

// mostSlots is how many slots are read at once.
const mostSlots = 16

func (g *regain) find(slot shard.Slot) (int, bool) {
	return slices.BinarySearchFunc(g.slots, slot, func(b behind, slot shard.Slot) int {
		return int(b.slot) - int(slot)
	})
}

// withhold reports whether an entry that was pushed is read instead, and sees to
// that.
func (g *regain) withhold(at shard.Position) bool {
	i, ok := g.find(at.Slot)
	if ok {
		g.slots[i].target = max(g.slots[i].target, at.Offset)
	}
	return ok
}

// include has slots read with the channels of a subscription that has just
// become active: what was withheld of it is not in the pages that are asked for.
func (g *regain) include(sub *subscription) {
	if g == nil {
		return
	}
	for i := range g.slots {
		if sub.isIn(g.slots[i].slot) {
			g.slots[i].token = 0
		}
	}
}

// isIn reports whether a slot may have entries of a subscription.
func (sub *subscription) isIn(slot shard.Slot) bool {
	return bayeux.IsPattern(sub.channel) || shard.Of(sub.channel) == slot
}

// rejoin asks for the events of a subscription that the client has.
func (s *Session) rejoin(sub *subscription, out *Effects) {
	j := rejoin{s.nextToken(), sub}
	s.regain.joins = append(s.regain.joins, j)
	out.Interests = append(out.Interests, Interest{Token: j.token, Channel: sub.channel})
}

// rejoined takes the answer to such an Interest, or reports that it is none.
// One that fails is asked for again: nothing is lost before history is.
func (s *Session) rejoined(token uint64, from []shard.Position, err *bayeux.Error, out *Effects) bool {
	g := s.regain
	if g == nil {
		return false
	}
	i := slices.IndexFunc(g.joins, func(j rejoin) bool { return j.token == token })
	if i < 0 {
		return false
	}
	sub := g.joins[i].sub
	if err == nil && len(from) == 0 && bayeux.IsPattern(sub.channel) {
		out.Places = append(out.Places, Interest{Token: token, Channel: sub.channel})
		return true
	}
	g.joins = slices.Delete(g.joins, i, i+1)
	if err != nil {
		s.rejoin(sub, out)
		return true
	}
	for _, p := range from {
		g.withhold(p)
	}
	g.settle(sub)
	s.advanceSlots()
	s.pump(out)
	return true
}

// settle notes that a subscription has joined, or does not have to.
func (g *regain) settle(sub *subscription) {
	if bayeux.IsPattern(sub.channel) {
		g.patterns--
		return
	}
	if i, ok := g.find(shard.Of(sub.channel)); ok {
		g.slots[i].waits--
	}
}

// forsake lets go of a subscription that was removed.
func (s *Session) forsake(sub *subscription) {
	g := s.regain
	if g == nil {
		return
	}
	if i := slices.IndexFunc(g.joins, func(j rejoin) bool { return j.sub == sub }); i >= 0 {
		g.joins = slices.Delete(g.joins, i, i+1)
		g.settle(sub)
	}
	g.slots = slices.DeleteFunc(g.slots, func(b behind) bool {
		return sub.isIn(b.slot) && len(s.channelsIn(b.slot)) == 0
	})
	s.advanceSlots()
}

// advanceSlots lets go of the slots of which all that is not pushed was given.
func (s *Session) advanceSlots() {
	g := s.regain
	g.slots = slices.DeleteFunc(g.slots, func(b behind) bool {
		return g.patterns == 0 && b.waits == 0 && s.got(b.slot) >= b.target
	})
	if len(g.slots) == 0 && g.earlier == nil {
		s.regain = nil
	}
}

// got is up to where a slot was given, as far as that is known.
func (s *Session) got(slot shard.Slot) uint64 {
	if i, ok := s.slot(slot); ok {
		return s.seen[i].Offset
	}
	return 0
}

// pumpSlots asks for more of the slots that are behind.
func (s *Session) pumpSlots(out *Effects) {
	g := s.regain
	if g == nil || g.patterns > 0 || g.full > 0 && s.fresh.events >= g.full {
		return
	}
	g.full = 0
	free := min(mostSlots, s.room())
	for _, b := range g.slots {
		if b.token != 0 {
			free--
		}
	}
	for i := range g.slots {
		b := &g.slots[i]
		if free <= 0 {
			return
		}
		if b.token != 0 || b.waits > 0 {
			continue
		}
		b.token = s.nextToken()
		out.Replays = append(out.Replays, Replay{
			Token: b.token, Slot: b.slot, Channels: s.channelsIn(b.slot),
			Since: s.got(b.slot), Through: b.target, Limit: s.room(),
		})
		free--
	}
}

// channelsIn returns the channels and patterns of which a slot may have entries.
func (s *Session) channelsIn(slot shard.Slot) (channels []string) {
	for _, sub := range s.subs {
		if sub.state == active && sub.isIn(slot) {
			channels = append(channels, sub.channel)
		}
	}
	return channels
}

// replayedSlot takes a page of a slot that is behind, or reports that it is
// none.
func (s *Session) replayedSlot(now time.Time, token uint64, page Page, err *bayeux.Error, out *Effects) bool {
	if s.regain == nil {
		return false
	}
	g := s.regain
	i := slices.IndexFunc(g.slots, func(b behind) bool { return b.token == token })
	if i < 0 {
		return false
	}
	g.slots[i].token = 0
	if err != nil {
		s.forgo(&g.slots[i])
	} else {
		s.absorbSlot(&g.slots[i], page, out)
	}
	s.advanceSlots()
	s.push(now, out)
	switch {
	case s.connect.state == held && s.fresh.events > 0 && !s.pushing():
		s.answerConnect(now, out)
	case s.fresh.notices > 0: // other slots may have lost something, too
		s.releaseSoon(now)
	}
	s.pump(out)
	return true
}

// absorbSlot queues a page as far as there is room.
func (s *Session) absorbSlot(b *behind, page Page, out *Effects) {
	i, _ := s.slot(b.slot)
	at := &s.seen[i].Offset
	before := *at
	for _, channel := range page.Lost {
		s.miss(channel, page.Through)
	}
	if len(page.Lost) > 0 && page.Through < before { // that was no position at all
		*at = min(b.target, page.Through)
	}
	for _, e := range page.Events {
		if e.At.Offset <= *at {
			continue
		}
		if s.wanted(e) {
			if s.fresh.events > 0 && (s.room() <= 0 || int(s.fresh.bytes)+e.Size() > s.cfg.QueueBytes/2) {
				s.regain.full = s.fresh.events
				s.missed(s.seen[i])
				return // the rest is read again later
			}
			s.enqueue(item{event: e}, out)
		}
		*at = e.At.Offset
	}
	*at = max(*at, page.Through)
	s.missed(s.seen[i])
	if *at == before && *at < b.target {
		s.forgo(b) // a page that leads nowhere; asking again would spin
	}
}

// wanted reports whether an entry is to be delivered through any subscription.
func (s *Session) wanted(e *event.Event) bool {
	return slices.ContainsFunc(s.subs, func(sub *subscription) bool {
		return sub.state == active && bayeux.Match(sub.channel, e.Channel) && s.wants(sub, e)
	})
}

// forgo gives up what was to be read of a slot: the client is told.
func (s *Session) forgo(b *behind) {
	for _, channel := range s.channelsIn(b.slot) {
		s.miss(channel, b.target)
	}
	i, _ := s.slot(b.slot)
	s.seen[i].Offset = max(s.seen[i].Offset, b.target)
	s.missed(s.seen[i])
}

// missed tells subscriptions that are being made that a slot was given up to
// a place, without them: what is pushed of it later is taken for old.
func (s *Session) missed(at shard.Position) {
	for _, sub := range s.subs {
		if sub.state != active && sub.isIn(at.Slot) {
			sub.miss(at)
		}
	}
}

// miss tells of a loss up to a position; but a subscription that reads its
// history itself reads up to there.
func (s *Session) miss(channel string, through uint64) {
	switch sub := s.find(channel); {
	case sub == nil:
	case sub.past != nil && !sub.past.done:
		sub.past.withhold(through)
	default:
		s.notice(channel)
	}
}
