package session

import (
	"slices"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Snapshot is what it takes to go on with a session on another edge. It is made
// by Session.Snapshot, with all there is, or by Session.Resume, for a record.
type Snapshot struct {
	// User is who authenticated.
	User string
	// Ack and Replay are the extensions that the handshake agreed on.
	Ack, Replay bool
	// Transport is the connection type of the newest connect.
	Transport string
	// Since is when it connected. Sessions do not know; their shell does.
	Since time.Time
	// Batch is the number of the last answer to a connect.
	Batch uint32
	// ConnectID is the id of the newest connect, as JSON text.
	ConnectID string
	// Interval is the pause that the client was asked to make.
	Interval time.Duration
	// Subscriptions are what the client is subscribed to, by channel.
	Subscriptions []Subscription
	// Seen is up to where it was given the slots of its subscriptions, by slot;
	// in a record only where that is not what the vector says.
	Seen []shard.Position
	// Items wait for the client; in a record there are only losses.
	Items []Item
	// Sent is what answers brought that are not acknowledged, by batch; in a record
	// that is to be exact, or of a session that has just gone on elsewhere.
	Sent []Sent
	// Live says that nothing is missing, and that batches go on behind Batch.
	Live bool
}

// Subscription is one channel or pattern of a Snapshot.
type Subscription struct {
	Channel string
	// Start is a position of a literal channel up to which nothing is delivered
	// through it; 0 if that is no more than what was given of its slot.
	Start uint64
	// Reads says that it reads history; it has read up to Cursor. At 0 it has
	// not begun and wants all that is retained.
	Reads  bool
	Cursor uint64
}

// Item is an event, or a loss, that waits for a client.
type Item struct {
	// Batch is the answer that it was first sent with, 0: never sent.
	Batch uint32
	// Event may be a notice: see event.NewNotice.
	Event *event.Event
}

// Snapshot returns all there is of a session. handed is up to where all entries
// of a slot were given to its Deliver; it may be too low. Subscriptions that
// the client has not been told of are not in it. What went with an answer that
// was not a connect's, and is not known to have arrived, is to be sent again.
func (s *Session) Snapshot(handed func(shard.Slot) uint64) *Snapshot {
	snap := s.outline()
	snap.Live = !s.unsure || s.connect.exchange != 0 // else the number of the next batch is not certain
	snap.User, snap.Transport, snap.ConnectID = s.user, s.Transport(), s.connect.id
	for _, slot := range s.slots() {
		at := s.got(slot)
		if !s.isBehind(slot) {
			at = max(at, handed(slot))
		}
		snap.Seen = append(snap.Seen, shard.Position{Slot: slot, Offset: at})
	}
	if s.regain != nil {
		snap.Sent = slices.Clone(s.regain.earlier)
	}
	for _, i := range s.log {
		if i.pushed || s.isLent(i.batch) {
			i.batch = 0
		}
		snap.Items = append(snap.Items, Item{Batch: i.batch, Event: i.event})
	}
	snap.Items = append(snap.Items, s.spilled()...)
	arrived := s.arrived()
	for _, sub := range s.subs {
		if sub.state != active {
			continue
		}
		if p := sub.past; p != nil && !p.done && (p.gap || p.earliest && p.withheld != 0) {
			snap.Items = append(snap.Items, Item{Event: event.NewNotice(sub.channel)})
		}
		slot := shard.Of(sub.channel)
		whole := s.whole(sub, snap.given(slot, nil))
		if at, known := arrived[slot]; known && !whole.Reads {
			whole = sub.plain(at) // a record counts from there
		}
		snap.Subscriptions = append(snap.Subscriptions, whole)
	}
	return snap
}

// arrived is by slot up to where nothing waits and all is confirmed, where it is
// not so of all that was given.
func (s *Session) arrived() map[shard.Slot]uint64 {
	var through map[shard.Slot]uint64
	for _, i := range s.log {
		if i.event.At.Offset == 0 {
			continue
		}
		if through == nil {
			through = map[shard.Slot]uint64{}
		}
		slot, before := i.event.At.Slot, i.event.At.Offset-1
		if at, known := through[slot]; !known || before < at {
			through[slot] = before
		}
	}
	return through
}

// outline is what all snapshots have.
func (s *Session) outline() *Snapshot {
	return &Snapshot{Ack: s.ack, Replay: s.replay, Batch: s.batch, Interval: s.connect.interval}
}

func (s *Session) isBehind(slot shard.Slot) bool {
	if s.regain == nil {
		return false
	}
	_, behind := s.regain.find(slot)
	return behind
}

func (snap *Snapshot) find(slot shard.Slot) (int, bool) {
	return slices.BinarySearchFunc(snap.Seen, slot, func(p shard.Position, slot shard.Slot) int {
		return int(p.Slot) - int(slot)
	})
}

// whole is a subscription of a session whose queue goes with it, and that was
// given its slot up to a position.
func (s *Session) whole(sub *subscription, given uint64) Subscription {
	p := sub.past
	if p == nil || p.done && p.cursor <= given && !s.waitsFor(sub) {
		return sub.plain(given)
	}
	cursor := p.cursor
	switch {
	case p.done:
		cursor = max(cursor, given)
	case p.from <= cursor: // that came through older subscriptions
		cursor = max(cursor, p.to)
	}
	return Subscription{Channel: sub.channel, Start: p.base, Reads: true, Cursor: cursor}
}

// waitsFor reports whether something waits, or is not confirmed, that a
// subscription has read from history.
func (s *Session) waitsFor(sub *subscription) bool {
	return slices.ContainsFunc(s.log, func(i item) bool { return s.reader(i.event) == sub })
}

// plain is a subscription that reads no history.
func (sub *subscription) plain(given uint64) Subscription {
	if bayeux.IsPattern(sub.channel) || sub.start <= given {
		return Subscription{Channel: sub.channel}
	}
	return Subscription{Channel: sub.channel, Start: sub.start}
}

// Resume returns what a record of the session has to have: where it stands, as
// far as vectors do not say so. A vector has a position for each slot, or is
// nil: up to there all sessions of the edge were given everything and have
// confirmed it, but for what Resume says. Holders of records may count from the
// vector passed next; they have one that is not below settled. With the ack
// extension Resume is exact if settled is given: it says where the client is
// beyond that, and what it is past once it acknowledges what was sent. User,
// Transport and Since are not in it; records have them anyway.
func (s *Session) Resume(passed, settled []uint64) *Snapshot {
	snap := s.outline()
	exact := s.ack && settled != nil
	if exact {
		s.noteSent(snap)
		snap.Seen = s.beyond(settled)
	}
	given := passed
	if exact {
		given = settled
	}
	snap.Items = s.spilled()
	var lag map[string]uint64 // by channel: before what it has read and is not confirmed
	for _, i := range s.log {
		at := i.event.At
		switch own := s.reader(i.event); {
		case i.event.Notice():
			snap.Items = append(snap.Items, Item{Event: i.event, Batch: i.batch})
		case own != nil:
			if lag == nil {
				lag = map[string]uint64{}
			}
			if before, known := lag[own.channel]; !known || at.Offset <= before {
				lag[own.channel] = at.Offset - 1
			}
		case at.Offset > 0:
			snap.except(shard.Position{Slot: at.Slot, Offset: at.Offset - 1}, passed)
		}
	}
	if s.regain != nil {
		for _, b := range s.regain.slots {
			snap.except(shard.Position{Slot: b.slot, Offset: s.got(b.slot)}, passed)
		}
	}
	for _, sub := range s.subs {
		if sub.state != active {
			continue
		}
		at, known := lag[sub.channel]
		snap.Subscriptions = append(snap.Subscriptions, sub.resume(snap.given(shard.Of(sub.channel), given), at, known))
	}
	return snap
}

// beyond returns the slots of which the session was given more than a vector
// says.
func (s *Session) beyond(vector []uint64) (slots []shard.Position) {
	for _, p := range s.seen {
		if p.Offset > offsetIn(vector, p.Slot) {
			slots = append(slots, p)
		}
	}
	return slots
}

// Beyond reports whether an exact Resume says more than a vector because of what
// the client was given lately.
func (s *Session) Beyond(vector []uint64) bool {
	return s.ack && (len(s.log) > 0 || slices.ContainsFunc(s.seen, func(p shard.Position) bool {
		return p.Offset > offsetIn(vector, p.Slot)
	}))
}

// resume is a subscription of a record; not confirmed is what it has read after
// lag, if that is known.
func (sub *subscription) resume(given, lag uint64, known bool) Subscription {
	p := sub.past
	switch {
	case p != nil && known:
		return Subscription{Channel: sub.channel, Start: p.base, Reads: true, Cursor: min(lag, p.cursor)}
	case p != nil && !p.done:
		return Subscription{Channel: sub.channel, Start: p.base, Reads: true, Cursor: p.cursor}
	}
	return sub.plain(given)
}

// except notes where a session stands if that is before what a vector says, or
// what is noted of the slot.
func (snap *Snapshot) except(at shard.Position, vector []uint64) {
	i, known := snap.find(at.Slot)
	if !known {
		if at.Offset >= offsetIn(vector, at.Slot) {
			return
		}
		snap.Seen = slices.Insert(snap.Seen, i, at)
		return
	}
	snap.Seen[i].Offset = min(snap.Seen[i].Offset, at.Offset)
}

// given is where a session stands in a slot.
func (snap *Snapshot) given(slot shard.Slot, vector []uint64) uint64 {
	if i, known := snap.find(slot); known {
		return snap.Seen[i].Offset
	}
	if snap.Live { // it has all slots
		return 0
	}
	return offsetIn(vector, slot)
}

func offsetIn(vector []uint64, slot shard.Slot) uint64 {
	if int(slot) < len(vector) {
		return vector[slot]
	}
	return 0
}

// reader is the subscription that has read an entry from history, or nil.
func (s *Session) reader(e *event.Event) *subscription {
	if !s.replay || e.At.Offset == 0 {
		return nil
	}
	sub := s.find(e.Channel)
	if sub == nil || sub.past == nil || e.At.Offset <= sub.past.base || e.At.Offset > sub.past.cursor {
		return nil
	}
	return sub
}

// Behind reports whether a record has to say more than the channels: something
// that a vector passes waits or is not confirmed, history is being read, or the
// number of the last batch is not what a record may have. It
// has to be asked before holders of records are told the vector, and what Resume
// returns goes first; once more when it was and is not any more.
func (s *Session) Behind(vector []uint64) bool {
	if s.unsure || s.catching > 0 || s.fresh.notices+s.sent.notices > 0 || s.pings != nil && len(s.pings.spilt) > 0 {
		return true
	}
	for _, i := range s.log {
		if at := i.event.At; at.Offset > 0 && at.Offset <= offsetIn(vector, at.Slot) || s.reader(i.event) != nil {
			return true
		}
	}
	if s.regain == nil {
		return false
	}
	return slices.ContainsFunc(s.regain.slots, func(b behind) bool {
		return s.got(b.slot) < offsetIn(vector, b.slot)
	})
}

// Move ends the session here because it goes on elsewhere: nobody is answered
// from now on. It is taken just after Snapshot.
func (s *Session) Move(out *Effects) {
	if s.ended() {
		return
	}
	if s.connect.state == held && !s.connect.socket {
		out.Answers = append(out.Answers, Answer{Exchange: s.connect.exchange, Status: statusElsewhere})
	}
	for r := s.requests; r != nil; r = r.next {
		if !r.done && !r.lost && r.socket == 0 {
			out.Answers = append(out.Answers, Answer{Exchange: r.exchange, Status: statusElsewhere})
		}
	}
	for _, sub := range s.subs {
		out.Interests = append(out.Interests, Interest{Channel: sub.channel, Leave: true})
	}
	s.setReason(Moved)
	out.Ended = Moved
	s.forget()
}
