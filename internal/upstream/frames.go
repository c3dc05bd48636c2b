package upstream

import (
	"fmt"
	"slices"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
)

// frame handles one frame of a live stream. An error means that the broker
// broke the protocol, and ends the stream.
func (l *loop) frame(st *attachment, f *brokerv1.Frame) error {
	if l.crosses(st, f) {
		return nil
	}
	switch k := f.GetKind().(type) {
	case *brokerv1.Frame_Entries:
		return l.entries(st, k.Entries)
	case *brokerv1.Frame_Opened:
		l.opened(st, k.Opened)
	case *brokerv1.Frame_Joined:
		l.joined(st, k.Joined)
	case *brokerv1.Frame_Lag:
		l.lag(st, k.Lag)
	case *brokerv1.Frame_Resumed:
		l.resumed(st, k.Resumed)
	case *brokerv1.Frame_Resync:
		l.resynced(st, k.Resync)
	case *brokerv1.Frame_Moved:
		l.moved(st, k.Moved)
	case *brokerv1.Frame_Marks:
		return l.marks(st, k.Marks)
	case *brokerv1.Frame_Ending:
		// The end of the stream follows; nothing is to be done before.
	}
	return nil
}

// cost is what an entry takes of the credit.
func cost(e *brokerv1.Entry) uint64 {
	const envelope = 64
	return uint64(len(e.GetData()) + len(e.GetExt()) + len(e.GetMembers()) + len(e.GetChannel()) + envelope)
}

func (l *loop) entries(st *attachment, f *brokerv1.Entries) error {
	for _, e := range f.GetEntries() {
		st.taken += cost(e)
	}
	s := l.on(st, f.GetSlot())
	if s == nil || s.state == opening {
		return nil
	}
	entries := f.GetEntries()
	for len(entries) > 0 && entries[0].GetOffset() <= s.overlap {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return nil
	}
	last := s.through
	for _, e := range entries {
		if e.GetOffset() <= last || s.state < pulling {
			return l.broken(s, "entry %d after %d in state %d", e.GetOffset(), last, s.state)
		}
		last = e.GetOffset()
	}
	l.tell(s)
	l.sink.Entries(s.slot, entries)
	s.through, s.earliest = last, false
	return nil
}

// broken makes the worst of a broker's bug: what the slot's interests have may
// be incomplete. They are told once it is attached again.
func (l *loop) broken(s *followed, format string, args ...any) error {
	s.owed = true
	return fmt.Errorf("slot %d: broken protocol: %s", s.slot, fmt.Sprintf(format, args...))
}

func (l *loop) opened(st *attachment, f *brokerv1.Opened) {
	s := l.on(st, f.GetSlot())
	if s == nil || f.GetTerm() != s.row.Term {
		return // of an earlier time
	}
	if s.state != opening {
		l.openedAgain(st, s, f)
		return
	}
	l.unsure = true
	s.fromEnd, s.openedTwice = !s.known, false
	switch {
	case s.fromEnd:
		s.state = pushed
		l.reach(s, f.GetThrough())
	case f.GetReset_() || s.through < f.GetBase() && !s.earliest:
		s.state = opened
		s.through, s.joined, s.owed = f.GetBase(), 0, true
	default:
		s.state = opened
	}
}

// openedAgain handles the answer to a second Open: the first was taken for
// refused, because a Moved from before came late. Both had the same since, and
// no pull was sent before both, so there is no news, unless they had none.
func (l *loop) openedAgain(st *attachment, s *followed, f *brokerv1.Opened) {
	if !s.fromEnd {
		s.openedTwice = true
		return
	}
	if s.state == pulling {
		st.pulling--
	}
	s.state = pushed
	if f.GetThrough() > s.through {
		s.through, s.owed = f.GetThrough(), true
		l.tell(s)
	}
}

func (l *loop) joined(st *attachment, f *brokerv1.Joined) {
	i := l.byID[f.GetId()]
	if i == nil || !i.pending {
		return // it was left meanwhile, or joined again after a reconnect
	}
	for _, p := range f.GetPositions() {
		if s := l.on(st, p.GetSlot()); s != nil && s.state != opening {
			s.joined = max(s.joined, p.GetOffset())
		}
	}
	if !i.literal {
		l.unsure = true
		i.answered[st] = struct{}{}
	} else if s := l.on(st, uint32(i.slot)); s != nil && s.state != opening {
		l.announce(i)
	}
}

func (l *loop) lag(st *attachment, f *brokerv1.Lag) {
	s := l.on(st, f.GetSlot())
	if s == nil || s.state == opening {
		return
	}
	if s.openedTwice {
		s.openedTwice = false
		return
	}
	switch s.state {
	case lagging:
		return
	case pulling:
		st.pulling--
		l.tell(s)
	case pushed:
		l.metrics.lags.Inc()
	}
	s.state = lagging
	st.lagging = append(st.lagging, s)
	s.through = max(s.through, f.GetThrough())
}

func (l *loop) resumed(st *attachment, f *brokerv1.Resumed) {
	s := l.on(st, f.GetSlot())
	if s == nil || s.state != pulling {
		return
	}
	st.pulling--
	l.tell(s)
	s.state, s.earliest, s.failures = pushed, false, 0
	l.reach(s, f.GetThrough())
}

func (l *loop) resynced(st *attachment, f *brokerv1.Resync) {
	s := l.on(st, f.GetSlot())
	switch {
	case s == nil || s.state == opening:
		return
	case s.owed:
		s.through = max(s.through, f.GetThrough())
		l.tell(s)
		return
	}
	var channels []string
	for _, id := range f.GetInterests() {
		if i := l.byID[id]; i != nil {
			channels = append(channels, i.channel)
		}
	}
	l.resync(shard.Position{Slot: s.slot, Offset: f.GetThrough()}, channels)
}

// moved waits for a newer row, and asks again in a while in case it was the
// broker who did not have the newest.
func (l *loop) moved(st *attachment, f *brokerv1.Moved) {
	s := l.on(st, f.GetSlot())
	if s == nil {
		return
	}
	if s.atCopy() {
		s.fail(time.Now())
		l.retreat(s)
		return
	}
	l.detach(s)
	s.failures++
	s.retryAt = time.Now().Add(retry(s.failures))
	l.wake(s.retryAt)
}

func (l *loop) marks(st *attachment, f *brokerv1.Marks) error {
	st.silent, st.heard, st.peer.failures = 0, true, 0
	for _, m := range f.GetMarks() {
		s := l.on(st, m.GetSlot())
		if s == nil || s.state != pushed {
			continue
		}
		if m.GetTerm() != s.row.Term {
			return fmt.Errorf("slot %d: mark of term %d, opened in %d", s.slot, m.GetTerm(), s.row.Term)
		}
		s.through = max(s.through, m.GetCommit())
	}
	for _, s := range l.slots {
		if s == nil || s.state != pushed || s.peer != st.peer {
			continue
		}
		s.failures = 0
		stale := slices.Contains(f.GetStale(), uint32(s.slot))
		if !stale {
			l.sink.Through(shard.Position{Slot: s.slot, Offset: s.through})
		}
		l.doubt(s, stale)
	}
	return nil
}
