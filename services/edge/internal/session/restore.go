package session

import (
	"math"
	"slices"
	"time"
	"unique"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// Restore makes the session of a snapshot, as New does for a handshake. Its
// subscriptions are joined again, and what they missed is read. The vector is
// for a snapshot that is not Live: the newest one of the edge where its record
// is from. The snapshot must not be used any more.
func Restore(
	cfg *Config, id, publicID string, snap *Snapshot, vector []uint64, now time.Time, out *Effects,
) *Session {
	s := New(cfg, id, publicID, snap.User)
	s.ack, s.replay, s.batch = snap.Ack, snap.Replay, snap.Batch
	s.transport = transportNamed(snap.Transport)
	if s.unsure = s.ack && !snap.Live; s.unsure {
		s.batch += far
	}
	s.advise = true // what the client was advised last is not known
	s.connect = connect{id: snap.ConnectID, interval: snap.Interval, socket: s.transport == webSocket}
	s.startClock(now)
	for _, i := range snap.Items {
		s.log = append(s.log, item{event: i.Event, batch: i.Batch})
	}
	s.discard(func(item) bool { return false })
	for i := range snap.Subscriptions {
		s.resubscribe(&snap.Subscriptions[i])
	}
	s.place(snap, vector)
	s.regain.earlier = snap.Sent
	s.advanceSlots()
	for _, sub := range s.subs {
		s.rejoin(sub, out)
	}
	s.pump(out)
	return s
}

func transportNamed(name string) transport {
	switch name {
	case bayeux.LongPolling:
		return longPolling
	case bayeux.CallbackPolling:
		return callbackPolling
	case bayeux.WebSocket:
		return webSocket
	}
	return noTransport
}

// resubscribe makes a subscription that the client has. What others delivered
// before is not known any more, so it has a gap.
func (s *Session) resubscribe(from *Subscription) {
	i, known := s.search(from.Channel)
	if known {
		return
	}
	sub := &subscription{
		channel: unique.Make(from.Channel).Value(), start: from.Start, state: active, gap: true,
	}
	if from.Reads {
		sub.past = &past{base: from.Start, cursor: from.Cursor, earliest: from.Cursor == 0}
	}
	s.subs = slices.Insert(s.subs, i, sub)
}

// place puts every slot of the subscriptions where the session was.
func (s *Session) place(snap *Snapshot, vector []uint64) {
	s.regain = &regain{}
	slots := make([]behind, 0, len(s.subs))
	for _, slot := range shard.SlotsOf(s.Channels()) {
		slots = append(slots, behind{slot: slot})
		s.seen = append(s.seen, shard.Position{Slot: slot, Offset: math.MaxUint64})
	}
	s.regain.slots = slots
	least := uint64(math.MaxUint64) // where patterns begin
	for _, sub := range s.subs {
		if bayeux.IsPattern(sub.channel) {
			s.regain.patterns++
			least = 0
			continue
		}
		i, _ := s.slot(shard.Of(sub.channel))
		slots[i].waits++
		s.seen[i].Offset = min(s.seen[i].Offset, sub.start)
	}
	for i := range s.seen {
		at := &s.seen[i]
		at.Offset = max(min(at.Offset, least), snap.given(at.Slot, vector))
	}
	for _, sub := range s.subs {
		if sub.past != nil {
			s.readOn(sub)
		}
	}
}

// readOn has a subscription go on with history. What it has to read up to where
// its slot was given was withheld from others.
func (s *Session) readOn(sub *subscription) {
	p := sub.past
	p.target = s.got(shard.Of(sub.channel))
	if !p.earliest && p.cursor >= p.target {
		p.done = true
		sub.start = p.cursor
		return
	}
	s.catching++
	if p.withheld = p.cursor + 1; p.earliest {
		p.withheld = shard.MaxPosition // it is not known which
	}
}

// far is by how much the numbers of batches go on behind those of the life
// before, if its newest is not known.
const far = 1000

// renumber has the numbers of batches go on far behind what the client has of the
// life before: the record may have been old.
func (s *Session) renumber(shown int64) {
	const most = math.MaxInt32
	switch {
	case s.connect.exchange != 0: // not the first connect here
		s.unsure = shown+far <= int64(s.batch) // until it has one of this life
	case 0 < shown && shown < most:
		s.batch = max(s.batch, uint32(shown)+far)
	}
}
