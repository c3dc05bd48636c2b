package session

import (
	"slices"
	"time"
	"unique"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

type subscriptionState uint8

const (
	joining subscriptionState = iota // Subscribed is awaited
	probing                          // the first page of history is awaited
	ready                            // waits for the rest of a subscribe message
	active                           // the client has been told
)

// subscription is one channel or pattern. It becomes active when a subscribe
// message that names it succeeds as a whole.
type subscription struct {
	channel string
	start   uint64            // entries at or below it are not delivered; literal channels
	starts  *[]shard.Position // the same for patterns; may be shared
	pending *pending          // while subscribe messages wait
	past    *past             // if history was asked for
	state   subscriptionState
	gap     bool // events of it were lost, so others may have to deliver them
}

// pending is what a subscription has only while it is being made.
type pending struct {
	token   uint64 // of the Interest
	since   int64  // history that is wanted, see bayeux.ReplayNew
	waiters []waiter
}

// waiter is a message of a request that awaits its reply.
type waiter struct {
	request *request
	index   int
}

func (sub *subscription) startIn(slot shard.Slot) uint64 {
	if sub.starts == nil {
		return sub.start
	}
	starts := *sub.starts
	if int(slot) < len(starts) && starts[slot].Slot == slot {
		return starts[slot].Offset
	}
	for _, p := range starts {
		if p.Slot == slot {
			return p.Offset
		}
	}
	return 0
}

// miss notes an entry that came before the subscription is active. It is read
// later, or nobody can say that it was delivered.
func (sub *subscription) miss(at shard.Position) {
	switch {
	case sub.past != nil:
		sub.past.withhold(at.Offset)
	case bayeux.IsPattern(sub.channel):
		starts := []shard.Position{at} // a copy, for the old one is shared
		if sub.starts != nil {
			for _, p := range *sub.starts {
				if p.Slot != at.Slot {
					starts = append(starts, p)
				}
			}
		}
		sub.starts = &starts
	}
}

// lost reports whether one of the channels is delivered through it.
func (sub *subscription) lost(channels map[string]bool) bool {
	if !bayeux.IsPattern(sub.channel) {
		return channels[sub.channel]
	}
	for channel := range channels {
		if bayeux.Match(sub.channel, channel) {
			return true
		}
	}
	return false
}

// subscribe takes a subscribe message: all its channels are checked, then
// joined, and the reply comes when all are ready, or one has failed.
func (s *Session) subscribe(now time.Time, w waiter, out *Effects) {
	m := w.message()
	since, err := s.checkSubscribe(m)
	if err != nil {
		s.reply(now, w, err)
		return
	}
	if s.enter(w, since, out); w.reply().waits > 0 {
		w.request.waiting++
		return
	}
	s.activate(w, out)
	s.reply(now, w, nil)
	s.pump(out)
}

// enter has a subscribe message wait for all its channels that are not ready.
func (s *Session) enter(w waiter, since map[string]int64, out *Effects) {
	for _, channel := range w.message().Subscription.Channels {
		if bayeux.IsService(channel) {
			continue // nothing to do: sessions are answered on it, not subscribed
		}
		sub := s.find(channel)
		if sub == nil {
			sub = s.join(channel, since, out)
		}
		if sub.state == active || slices.Contains(sub.pending.waiters, w) {
			continue
		}
		sub.pending.waiters = append(sub.pending.waiters, w)
		if sub.state != ready {
			w.reply().waits++
		}
	}
}

func (s *Session) checkSubscribe(m *bayeux.Message) (since map[string]int64, err *bayeux.Error) {
	if m.Subscription == nil {
		return nil, bayeux.SubscriptionMissing()
	}
	if s.replay {
		if since, err = bayeux.ParseReplay(m.Ext, bayeux.Limits{}); err != nil {
			return nil, err
		}
	}
	for _, channel := range m.Subscription.Channels {
		if bayeux.IsMeta(channel) {
			return nil, bayeux.SubscribeDenied(bayeux.DeniedByPolicy)
		}
		if bayeux.IsService(channel) {
			continue
		}
		if err := s.cfg.MaySubscribe(s.user, channel); err != nil {
			return nil, err
		}
		if from, ok := since[channel]; ok && from != bayeux.ReplayNew && bayeux.IsPattern(channel) {
			return nil, replayPattern(channel)
		}
		if since[channel] >= shard.MaxPosition {
			return nil, bayeux.ReplayInvalid()
		}
	}
	if !s.hasRoom(m.Subscription.Channels) {
		return nil, bayeux.LimitExceeded("subscriptions")
	}
	return since, nil
}

// hasRoom reports whether the session may have subscriptions to all of these.
func (s *Session) hasRoom(channels []string) bool {
	more := 0
	for _, channel := range channels {
		if !bayeux.IsService(channel) && s.find(channel) == nil {
			more++
		}
	}
	return more == 0 || len(s.subs)+more <= s.cfg.Subscriptions
}

// replayPattern refuses history of a pattern: it spans slots, so no one number
// says where to begin.
func replayPattern(pattern string) *bayeux.Error {
	return &bayeux.Error{Code: 400, Args: []string{pattern}, Text: "replay_pattern"}
}

// join makes a subscription and asks for its events.
func (s *Session) join(channel string, since map[string]int64, out *Effects) *subscription {
	from, ok := since[channel]
	if _, roster := bayeux.RosterOf(channel); roster || !ok {
		from = bayeux.ReplayNew // who is there is all there is
	}
	channel = unique.Make(channel).Value() // many sessions have the same
	sub := &subscription{channel: channel, pending: &pending{token: s.nextToken(), since: from}}
	i, _ := s.search(channel)
	s.subs = slices.Insert(s.subs, i, sub)
	out.Interests = append(out.Interests, Interest{Token: sub.pending.token, Channel: channel})
	return sub
}

// Subscribed answers an Interest: err, or that everything on the channel after
// the positions will be delivered from now on. A literal channel has one
// position; a pattern has one per slot, or none if nothing that was appended
// before this call will be delivered through it. The session keeps from. For a
// pattern of Effects.Places it is called again.
func (s *Session) Subscribed(now time.Time, token uint64, from []shard.Position, err *bayeux.Error, out *Effects) {
	if s.rejoined(token, from, err, out) {
		return
	}
	i := slices.IndexFunc(s.subs, func(sub *subscription) bool {
		return sub.state == joining && sub.pending.token == token
	})
	if i < 0 {
		return
	}
	sub := s.subs[i]
	if err != nil {
		s.failSubscription(now, sub, err, false, out)
		return
	}
	switch {
	case len(from) == 0:
	case bayeux.IsPattern(sub.channel):
		starts := from
		sub.starts = &starts
	default:
		sub.start = from[0].Offset
	}
	if sub.pending.since != bayeux.ReplayNew {
		s.probe(sub, out)
		return
	}
	s.becomeReady(now, sub, out)
	s.pump(out)
}

// becomeReady answers the messages for which this was the last channel.
func (s *Session) becomeReady(now time.Time, sub *subscription, out *Effects) {
	sub.state = ready
	for _, w := range slices.Clone(sub.pending.waiters) {
		s.advanceWaiter(now, w, out)
	}
}

func (s *Session) advanceWaiter(now time.Time, w waiter, out *Effects) {
	r := w.reply()
	if r.waits--; r.waits > 0 {
		return
	}
	s.activate(w, out)
	s.resolve(now, w, nil, out)
}

// activate makes the subscriptions of a subscribe message active.
func (s *Session) activate(w waiter, out *Effects) {
	for _, channel := range w.message().Subscription.Channels {
		sub := s.find(channel)
		if sub == nil || !sub.forget(w) || sub.state == active {
			continue
		}
		if sub.past != nil {
			s.overlap(sub)
		}
		sub.state = active
		s.regain.include(sub)
		out.Joined = append(out.Joined, channel)
	}
	for _, channel := range w.message().Subscription.Channels {
		if sub := s.find(channel); sub != nil {
			sub.tidy()
		}
	}
}

// forget removes a waiter and reports whether it was there.
func (sub *subscription) forget(w waiter) bool {
	if sub.pending == nil {
		return false
	}
	i := slices.Index(sub.pending.waiters, w)
	if i < 0 {
		return false
	}
	sub.pending.waiters = slices.Delete(sub.pending.waiters, i, i+1)
	return true
}

func (sub *subscription) tidy() {
	if sub.state == active && sub.pending != nil && len(sub.pending.waiters) == 0 {
		sub.pending = nil
	}
}

// failSubscription fails every message that waits for a subscription. joined:
// there is an interest to end.
func (s *Session) failSubscription(now time.Time, sub *subscription, err *bayeux.Error, joined bool, out *Effects) {
	waiters := sub.pending.waiters
	s.remove(sub, joined, out)
	for _, w := range waiters {
		for _, channel := range w.message().Subscription.Channels {
			other := s.find(channel)
			if other == nil || !other.forget(w) {
				continue
			}
			if other.tidy(); other.state != active && len(other.pending.waiters) == 0 {
				s.remove(other, true, out)
			}
		}
		s.resolve(now, w, err, out)
	}
	s.pump(out)
}

// remove ends a subscription.
func (s *Session) remove(sub *subscription, leave bool, out *Effects) {
	i, _ := s.search(sub.channel)
	s.subs = slices.Delete(s.subs, i, i+1)
	if leave {
		out.Interests = append(out.Interests, Interest{Channel: sub.channel, Leave: true})
	}
	if sub.state == active {
		out.Left = append(out.Left, sub.channel)
	}
	if p := sub.past; p != nil && !p.done {
		s.catching--
		if sub.state == active && p.withheld != 0 && p.target > p.cursor { // others were owed what it was to read
			s.matching(sub.channel, func(other *subscription) { s.notice(other.channel) })
		}
	}
	s.forsake(sub)
}

// unsubscribe takes an unsubscribe message. Messages that still wait for one
// of its channels are answered as if it had come after them.
func (s *Session) unsubscribe(now time.Time, w waiter, out *Effects) {
	m := w.message()
	if m.Subscription == nil {
		s.reply(now, w, bayeux.SubscriptionMissing())
		return
	}
	s.leaveAll(now, m.Subscription.Channels, out)
	s.reply(now, w, nil)
	s.pump(out) // less may have to be read first
}

// leaveAll ends the subscriptions to these channels, as far as there are any.
func (s *Session) leaveAll(now time.Time, channels []string, out *Effects) {
	for _, channel := range channels {
		sub := s.find(channel)
		if sub == nil {
			continue
		}
		s.remove(sub, true, out)
		if sub.state == joining || sub.state == probing {
			for _, other := range sub.pending.waiters {
				s.advanceWaiter(now, other, out)
			}
		}
	}
}
