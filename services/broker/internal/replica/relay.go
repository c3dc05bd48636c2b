package replica

import "time"

// relay begins or ends to serve followers while another member leads. What a
// copy has committed is then a part of what its primary has, it grows by one
// entry after the other, and the primary says so in time: the copy is in sync,
// takes part in a round that has joined, and has a stream.
func (r *Replica) relay(out *Effects) {
	l := &r.leader
	relays := r.lead == nil && l.joined && l.up && r.row.Term == r.term && r.inSync
	switch {
	case relays == r.relays:
		return
	case relays:
		out.Relay = true
	default:
		out.Stop = true
		l.asked, l.asOf = time.Time{}, time.Time{}
	}
	r.relays = relays
}

// Followed tells, with every tick for which that holds, that a copy which relays
// has followers. It asks the primary then for commit marks as they move, and for
// how long they have been the newest.
func (r *Replica) Followed(now time.Time, out *Effects) {
	l := &r.leader
	if !r.relays {
		return
	}
	if l.wait > 0 {
		l.wait--
		return
	}
	l.wait = r.cfg.Patience/2 - 1
	l.number++
	l.asked = now
	out.send(l.name, &Watch{Term: r.term, Round: l.round, Number: l.number})
}

func (r *Replica) onWatch(now time.Time, from string, m *Watch, out *Effects) {
	if m.Term < r.term {
		out.send(from, &Refuse{Term: r.term, Version: r.row.Version, Round: m.Round})
		return
	}
	p := r.answered(from, m.Term, m.Round)
	if p == nil || p.stage != following || !p.joined {
		return
	}
	p.watched = 2 * r.cfg.Patience
	r.tell(p, out)
	if asOf, ok := r.AsOf(now); ok {
		out.send(from, &Fresh{Term: r.term, Round: p.round, Number: m.Number, Commit: r.commit, Age: now.Sub(asOf)})
	}
}

// onFresh takes over what the primary has proved. The age counts from the
// question, since that is known to be before the answer by this member's clock.
func (r *Replica) onFresh(from string, m *Fresh, out *Effects) {
	l := &r.leader
	if !r.follows(from, m.Term, m.Round, out) || !r.relays || l.asked.IsZero() || m.Number != l.number || m.Commit > r.log.End() {
		return
	}
	r.learn(m.Commit, out)
	if asOf := l.asked.Add(-m.Age); asOf.After(l.asOf) {
		l.asOf = asOf
	}
	l.asked = time.Time{}
}

// learn takes over the primary's commit mark, as far as the log goes.
func (r *Replica) learn(commit uint64, out *Effects) {
	if upto := min(commit, r.log.End()); upto > r.commit {
		r.commit, out.Commit = upto, upto
	}
}

// tell tells a member whose followers wait for it of the commit mark.
func (r *Replica) tell(p *peer, out *Effects) {
	if p.watched > 0 && p.stage == following && p.joined && p.told < r.commit {
		p.told = r.commit
		out.send(p.name, &Append{Term: r.term, Round: p.round, Prev: p.sent, Commit: r.commit})
	}
}
