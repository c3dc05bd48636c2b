package replica

import "time"

// leader is whom a member follows, in its term.
type leader struct {
	name   string // empty: nobody yet
	round  uint64
	up     bool   // there is a stream
	joined bool   // the log is a part of the leader's
	acked  uint64 // in this round
	pieces int    // taken of the round's snapshot

	// If it relays.
	number uint64    // of the last Watch
	asked  time.Time // when that was sent; zero: it was answered
	asOf   time.Time // as in AsOf; zero: nothing was proved
	wait   int       // ticks until the next
}

func (r *Replica) onLead(from string, m *Lead, out *Effects) {
	if !r.current(from, m.Term, m.Round, out) {
		return
	}
	switch {
	case r.lead != nil, r.leader.name != "" && r.leader.name != from,
		r.row.Term == m.Term && r.row.Primary != from:
		out.alarm(Rivals, from, nil)
		return
	case m.Base < r.log.Base():
		out.alarm(Diverged, from, nil)
		return
	case m.Round <= r.leader.round:
		return // overtaken by a later one
	case m.Base > r.log.Base():
		r.reset(m.Base)
	}
	r.handed = 0
	r.leader = leader{name: from, round: m.Round, up: r.up[from]}
	out.send(from, &State{Term: r.term, Version: r.row.Version, Round: m.Round, End: r.log.End(), Terms: r.log.Terms()})
}

// current reports whether a message of a primary is of the highest term heard
// of, and tells the sender if it is of a lower one.
func (r *Replica) current(from string, term, round uint64, out *Effects) bool {
	if term < r.term {
		out.send(from, &Refuse{Term: r.term, Version: r.row.Version, Round: round})
		return false
	}
	r.adopt(term, out)
	return true
}

// follows reports whether a message is of the round this member takes part in.
func (r *Replica) follows(from string, term, round uint64, out *Effects) bool {
	return r.current(from, term, round, out) && r.leader.name == from && r.leader.round == round
}

func (r *Replica) onAppend(from string, m *Append, out *Effects) {
	if !r.follows(from, m.Term, m.Round, out) || !r.leader.joined && (!m.Join || !r.join(m, out)) {
		return
	}
	if m.Prev > r.log.End() {
		out.send(from, &Refuse{Term: r.term, Round: m.Round, Need: r.log.End() + 1})
		return
	}
	for _, e := range m.Entries {
		if e.Offset <= r.log.End() {
			continue // came before, in the same term of the same log
		}
		if err := r.log.Replicate(e); err != nil {
			out.alarm(Damaged, from, err)
			return
		}
	}
	r.learn(m.Commit, out)
	if m.Join || len(m.Entries) > 0 {
		r.leader.acked = 0 // repeated if the last one was lost
		r.acknowledge(out)
	}
}

// join cuts what the primary's log lacks (R8).
func (r *Replica) join(m *Append, out *Effects) bool {
	if m.Prev < r.commit || m.Prev > r.log.End() {
		out.alarm(Diverged, r.leader.name, nil)
		return false
	}
	if err := r.log.Cut(m.Prev); err != nil {
		out.alarm(Damaged, r.leader.name, err)
		return false
	}
	r.leader.joined = true
	return true
}

// acknowledge tells the primary what is held of its log, if that is news.
func (r *Replica) acknowledge(out *Effects) {
	held := r.log.Held()
	if l := &r.leader; l.joined && held > l.acked {
		l.acked = held
		out.send(l.name, &Ack{Term: r.term, Round: l.round, End: held, Pieces: l.pieces})
	}
}

func (r *Replica) onPiece(from string, m *Piece, out *Effects) {
	l := &r.leader
	if !r.follows(from, m.Term, m.Round, out) || l.joined || m.Seq != l.pieces {
		return
	}
	if m.Offset < r.commit {
		out.alarm(Diverged, from, nil)
		return
	}
	if err := r.log.Restore(m.Seq, m.Data, m.Last); err != nil {
		out.alarm(Damaged, from, err)
		*l = leader{name: from, round: l.round, up: l.up} // until the next round
		l.pieces = -1
		return
	}
	l.pieces++
	if m.Last {
		l.joined = true
		r.commit = r.log.Committed()
		l.acked = r.log.Held()
	}
	out.send(from, &Ack{Term: r.term, Round: l.round, End: l.acked, Pieces: l.pieces})
}

// part drops a log that nobody counts on: no row names this member, and it has
// acknowledged nothing in the row's term. If it may have, the primary is asked.
func (r *Replica) part(out *Effects) {
	switch {
	case r.lead != nil || r.log.Base() == 0 || r.row.Version == 0 || r.names(r.cfg.Self) || r.row.Term < r.term:
	case r.leader.name == "" && r.term > r.born:
		r.reset(0)
	default:
		out.send(r.row.Primary, &Leave{Term: r.term, Version: r.row.Version})
	}
}

func (r *Replica) onRelease(from string, m *Release, out *Effects) {
	if !r.current(from, m.Term, m.Round, out) || r.lead != nil || m.Round <= r.leader.round {
		return
	}
	r.reset(0)
	r.leader = leader{name: from, round: m.Round, up: r.up[from]} // no earlier round counts
}

func (r *Replica) reset(base uint64) {
	r.log.Reset(base)
	r.commit = r.log.Committed()
}
