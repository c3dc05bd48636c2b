package upstream

import (
	"slices"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
)

// state is how a slot stands on the stream of its owner.
type state uint8

const (
	detached state = iota // not on a stream
	opening               // Open was sent; whatever comes before Opened is of an earlier time
	opened                // with since: Lag is still to come
	lagging               // to be pulled
	pulling               // Pull was sent; Resumed or Lag is still to come
	pushed                // new entries come by themselves
)

// followed is a slot as the follower knows it.
type followed struct {
	slot  shard.Slot
	row   shard.Row // by which peer was chosen
	peer  *peer     // its owner, or a copy; nil: nobody
	state state

	fromEnd     bool // it was opened without since
	openedTwice bool // the next Lag belongs to a second Opened

	known    bool   // through says something
	through  uint64 // nothing up to here is still to come
	joined   uint64 // the last position at which an interest was joined
	earliest bool   // begin with what is retained after through
	owed     bool   // all interests are to be told that they lost what was before through

	retryAt  time.Time // when it moved, and nobody knows where
	failures int       // times it moved in a row

	literals map[string]*interest

	// With copies.
	copy         string    // the member at which it is best followed
	crossing     *crossing // on the way to another member; or nil
	overlap      uint64    // entries up to here came before it was followed here
	stale        int       // heartbeats in a row in which a copy proved nothing
	copyAt       time.Time // it stays with its primary until then
	copyFailures int       // times copies failed it in a row
}

// attach opens a slot, with its literals, on the stream of its owner; without
// a stream nothing happens.
func (l *loop) attach(s *followed) {
	if s.peer == nil || s.peer.stream == nil || s.state != detached {
		return
	}
	if s.crossing != nil && s.crossing.to == s.peer.stream {
		s.retryAt = time.Time{}
		return // its end comes first
	}
	open := &brokerv1.OpenSlot{Slot: uint32(s.slot)}
	if s.known {
		since := s.through
		open.Since, open.Earliest = &since, s.earliest
	}
	t := &s.peer.stream.turn
	t.opens = append(t.opens, open)
	for _, i := range s.literals {
		t.join(i)
	}
	s.state, s.retryAt = opening, time.Time{}
}

// detach takes a slot from its stream. The broker may still send of it; slot
// and numbers can be used again there.
func (l *loop) detach(s *followed) {
	s.stay()
	if s.overlap = 0; s.state == detached {
		return
	}
	st := s.peer.stream
	if s.state == pulling {
		st.pulling--
	}
	for _, i := range s.literals {
		st.turn.leave(i)
	}
	s.state = detached
}

// on returns a slot if it is on the stream.
func (l *loop) on(st *attachment, slot uint32) *followed {
	if slot >= shard.Slots {
		return nil
	}
	s := l.slots[slot]
	if s == nil || s.state == detached || s.peer != st.peer {
		return nil
	}
	return s
}

// reach moves the mark of a slot that is pushed.
func (l *loop) reach(s *followed, through uint64) {
	s.known = true
	s.through = max(s.through, through)
	l.sink.Through(shard.Position{Slot: s.slot, Offset: s.through})
}

// tell tells all interests of a slot what they are owed: that its log began
// anew. That waits for the answer to the first pull, which may tell of further
// losses, so that they are told once.
func (l *loop) tell(s *followed) {
	if !s.owed {
		return
	}
	s.owed = false
	var channels []string
	for channel := range s.literals {
		channels = append(channels, channel)
	}
	for channel := range l.patterns {
		channels = append(channels, channel)
	}
	l.resync(shard.Position{Slot: s.slot, Offset: s.through}, channels)
}

func (l *loop) resync(at shard.Position, channels []string) {
	if len(channels) == 0 {
		return
	}
	slices.Sort(channels)
	l.metrics.resyncs.Inc()
	l.sink.Resync(at, channels)
}

// settle answers the Joins of patterns that every broker has answered.
func (l *loop) settle() {
	if !l.unsure {
		return
	}
	l.unsure = false
	for _, i := range l.patterns {
		if i.pending && l.covered(i) {
			l.announce(i)
		}
	}
}

// covered reports whether every slot is open where a pattern was joined.
func (l *loop) covered(i *interest) bool {
	for _, s := range l.slots {
		if s == nil {
			continue
		}
		if s.state < opened {
			return false
		}
		if _, ok := i.answered[s.peer.stream]; !ok {
			return false
		}
	}
	return true
}

// announce answers a Join: all up to the position has been handed over or was
// before the Join, all after it is still to come.
func (l *loop) announce(i *interest) {
	var from []shard.Position
	for _, s := range l.slots {
		if s == nil || i.literal && s.slot != i.slot {
			continue
		}
		// Where the slot stands may be before this interest was joined. The
		// last join of any is not before it, and nothing newer has come.
		from = append(from, shard.Position{Slot: s.slot, Offset: max(s.through, s.joined)})
	}
	i.pending, i.answered = false, nil
	l.sink.Joined(i.channel, from)
}
