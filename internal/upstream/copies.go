package upstream

import (
	"time"

	"github.com/cespare/xxhash/v2"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

const (
	// copyPause is how long a slot stays with its primary after a copy failed it,
	// and copyPauses how often that doubles.
	copyPause  = 10 * time.Second
	copyPauses = 4
	// maxStale is in how many heartbeats a copy may prove nothing.
	maxStale = 3
)

// crossing is a slot's way to another member that holds it: the slot is opened
// there at its end, while it is followed where it was. It ends with the answer
// to a pull, which says from where on that member pushes all that is wanted; if
// the slot has come as far, nothing is missed, and nothing need be read again.
type crossing struct {
	to     *attachment
	term   uint64
	off    bool // things have changed: it only waits for its end
	lagged bool // the member has said Lag
}

// spread moves slots to the copies that are best for this node.
func (l *loop) spread(now time.Time) {
	for _, s := range l.slots {
		if s == nil || s.state != pushed || s.crossing != nil || now.Before(s.copyAt) {
			continue
		}
		n, ok := l.best(s)
		if !ok {
			continue
		}
		if s.copy = n.Member(); s.copy == s.peer.member {
			continue
		}
		p := l.peers[s.copy]
		if p == nil {
			p = &peer{member: s.copy, addr: n.Addr}
			l.peers[s.copy] = p
		}
		switch {
		case p.stream == nil:
			l.connect(p)
		case p.stream.heard:
			l.cross(s, p)
		}
	}
}

// best is the member in sync where this node is to follow a slot: one of its own
// zone if there is one and, of several, one that depends on the node, so that
// nodes spread over them.
func (l *loop) best(s *followed) (best membership.Node, ok bool) {
	var near bool
	var weight uint64
	for _, m := range s.row.InSync {
		n, known := l.brokers[m]
		if !known || n.Draining && m != s.row.Primary {
			continue
		}
		isNear := l.cfg.Zone != "" && n.Zone == l.cfg.Zone
		h := xxhash.New()
		_, _ = h.WriteString(l.cfg.Node)
		_, _ = h.Write([]byte{0, byte(s.slot), byte(s.slot >> 8)})
		_, _ = h.WriteString(m)
		if w := h.Sum64(); !ok || isNear && !near || isNear == near && w > weight {
			best, ok, near, weight = n, true, isNear, w
		}
	}
	return best, ok
}

// cross begins a crossing, unless a Joined is still awaited where the slot is.
func (l *loop) cross(s *followed, p *peer) {
	for _, i := range s.literals {
		if i.pending {
			return
		}
	}
	s.crossing = &crossing{to: p.stream, term: s.row.Term}
	t := &p.stream.turn
	t.opens = append(t.opens, &brokerv1.OpenSlot{Slot: uint32(s.slot), Copy: s.row.Term})
	for _, i := range s.literals {
		t.join(i)
	}
	t.pulls = append(t.pulls, uint32(s.slot))
}

// stay gives a crossing up. The next one waits for its end: frames of the two
// could not be told apart.
func (s *followed) stay() {
	if s.crossing != nil {
		s.crossing.off = true
	}
}

// crosses handles a frame if it is about a crossing.
func (l *loop) crosses(st *attachment, f *brokerv1.Frame) bool {
	switch k := f.GetKind().(type) {
	case *brokerv1.Frame_Opened:
		if s := l.crossing(st, k.Opened.GetSlot()); s != nil {
			s.crossing.off = s.crossing.off || k.Opened.GetTerm() != s.crossing.term
			return true
		}
	case *brokerv1.Frame_Lag:
		if s := l.crossing(st, k.Lag.GetSlot()); s != nil {
			l.lagAcross(s)
			return true
		}
	case *brokerv1.Frame_Resumed:
		if s := l.crossing(st, k.Resumed.GetSlot()); s != nil {
			l.resumeAcross(s, k.Resumed.GetThrough())
			return true
		}
	case *brokerv1.Frame_Moved:
		if s := l.crossing(st, k.Moved.GetSlot()); s != nil {
			s.fail(time.Now())
			l.turnBack(s)
			return true
		}
	}
	return false
}

// crossing returns a slot if it is on the way to the member of a stream.
func (l *loop) crossing(st *attachment, slot uint32) *followed {
	if slot >= shard.Slots || l.slots[slot] == nil || l.slots[slot].crossing == nil || l.slots[slot].crossing.to != st {
		return nil
	}
	return l.slots[slot]
}

// lagAcross takes note that the member does not push, for want of credit. The
// pull is answered by another Lag then, or by Resumed.
func (l *loop) lagAcross(s *followed) {
	if s.crossing.lagged {
		l.turnBack(s)
		return
	}
	s.crossing.off, s.crossing.lagged = true, true
}

// resumeAcross takes note that the member pushes what comes after a position.
func (l *loop) resumeAcross(s *followed, through uint64) {
	if c := s.crossing; c.off || s.state != pushed || c.term != s.row.Term || s.through < through {
		l.turnBack(s)
		return
	}
	l.arrive(s)
}

// turnBack ends a crossing: the slot stays where it is, or is attached there by
// now if that had to wait for this.
func (l *loop) turnBack(s *followed) {
	l.forsake(s, s.crossing.to)
	s.crossing = nil
	if s.retryAt.IsZero() {
		l.attach(s)
	}
}

// arrive ends a crossing: the slot is followed there.
func (l *loop) arrive(s *followed) {
	if s.peer.stream != nil {
		l.forsake(s, s.peer.stream)
	}
	s.peer, s.crossing = s.crossing.to.peer, nil
	s.overlap, s.stale = s.through, 0
}

// forsake ends following a slot on a stream.
func (l *loop) forsake(s *followed, st *attachment) {
	for _, i := range s.literals {
		st.turn.leave(i)
	}
	st.turn.shut(s.slot)
}

// retreat goes back from a copy to the primary, for now.
func (l *loop) retreat(s *followed) {
	s.stay()
	if s.state != detached {
		st := s.peer.stream
		l.detach(s)
		st.turn.shut(s.slot)
	}
	s.peer, s.retryAt, s.failures, s.stale = l.peer(s.row), time.Time{}, 0, 0
	if s.peer != nil && s.peer.stream == nil {
		l.connect(s.peer)
	}
	l.attach(s)
}

// fail keeps a slot away from copies for a while.
func (s *followed) fail(now time.Time) {
	s.copyAt = now.Add(copyPause << min(s.copyFailures, copyPauses))
	s.copyFailures++
}

// atCopy reports whether a slot is followed at a copy.
func (s *followed) atCopy() bool { return s.peer != nil && s.peer.member != s.row.Primary }

// doubt takes note that a copy has proved something of a slot, or not.
func (l *loop) doubt(s *followed, stale bool) {
	switch {
	case !s.atCopy():
	case !stale:
		s.stale, s.copyFailures = 0, 0
	default:
		if s.stale++; s.stale >= maxStale {
			s.fail(time.Now())
			l.retreat(s)
		}
	}
}
