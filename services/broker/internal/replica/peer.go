package replica

import (
	"time"
)

// peer is a member that the primary keeps up to date.
type peer struct {
	name  string
	waits bool // every commit waits for it

	first uint64 // round from which on its acknowledgements count
	round uint64 // the last that was begun
	stage stage
	sent  uint64 // the log up to here was sent in this round
	told  uint64 // commit mark that was sent
	acked uint64 // the log up to here is held, in this term

	flights []flight // sent and not acknowledged, oldest first
	flying  int      // bytes of these

	joined   bool // acknowledged something of this round
	snapshot *transfer
	pinned   bool      // what comes after the snapshot is still to be sent
	heard    time.Time // when what it answered last was sent
	watched  int       // ticks for which it is told of commits at once

	late   int  // ticks without progress while entries wait for it
	silent int  // ticks without progress while it owes anything
	quiet  int  // ticks without any sign of life
	well   int  // ticks without a failure
	lost   bool // it will not come back
	banned bool // it failed, and was not well for long enough since
}

// stage is how far a round has come.
type stage int

const (
	idle      stage = iota // there is no stream
	asked                  // Lead was sent
	restoring              // is sent a snapshot
	following              // is sent the log
)

// flight is a message that is on its way, until the log up to end, or seq
// pieces, are acknowledged.
type flight struct {
	end  uint64
	seq  int
	cost int
}

// transfer is a snapshot on its way to a member.
type transfer struct {
	offset uint64
	next   func(bytes int) []byte
	ahead  []byte // the piece after the last one sent
	seq    int    // pieces sent
	taken  int    // pieces acknowledged
}

// reset ends the round. What was acknowledged stays so for the term: within it
// the member cuts nothing that the primary has.
func (p *peer) reset() {
	p.stage, p.joined = idle, false
	p.flights, p.flying = nil, 0
	p.snapshot, p.pinned = nil, false
}

// progress takes note that the member has done what it owed.
func (p *peer) progress() { p.late, p.silent = 0, 0 }

// ban keeps the member from being added until it was well for a while.
func (p *peer) ban() { p.well, p.banned = 0, true }

// fails reports whether the member does not do its part now.
func (r *Replica) fails(p *peer) bool {
	return p.lost || p.late >= r.cfg.Patience || max(p.silent, p.quiet) >= 3*r.cfg.Patience
}

// land forgets what was acknowledged.
func (p *peer) land(pieces int) {
	for len(p.flights) > 0 && p.flights[0].end <= p.acked && p.flights[0].seq <= pieces {
		p.flying -= p.flights[0].cost
		p.flights = p.flights[1:]
	}
}

func (p *peer) take(end uint64, seq, cost int) {
	p.flights = append(p.flights, flight{end, seq, cost})
	p.flying += cost
}

// ask begins a round, if there is a stream.
func (r *Replica) ask(p *peer, out *Effects) {
	p.reset()
	r.pin()
	if !r.up[p.name] {
		return
	}
	r.lead.rounds++
	p.round, p.stage = r.lead.rounds, asked
	out.send(p.name, &Lead{Term: r.term, Version: r.row.Version, Base: r.log.Base(), Round: p.round})
}

// answered returns the peer whose present round a message answers, or nil.
func (r *Replica) answered(from string, term, round uint64) *peer {
	p := r.peer(from)
	if p == nil || term != r.term || round != p.round {
		return nil
	}
	return p
}

func (r *Replica) onState(from string, m *State, out *Effects) {
	if m.Version > r.row.Version && r.lead != nil {
		r.read(out)
	}
	p := r.answered(from, m.Term, m.Round)
	if p == nil || p.stage != asked {
		return
	}
	p.progress()
	p.sent = shared(r.log.Base(), r.log.Terms(), m.Terms)
	p.stage = following
	r.feed(p, true, out)
}

// shared is up to where two logs with one base agree: where a term that both
// have ends in the one that has less of it. All before it is the same in both,
// since a term's entries are appended by one primary, to one log (R5).
func shared(base uint64, a, b []TermEnd) uint64 {
	for len(a) > 0 && len(b) > 0 {
		last, other := a[len(a)-1], b[len(b)-1]
		switch {
		case last.Term > other.Term:
			a = a[:len(a)-1]
		case last.Term < other.Term:
			b = b[:len(b)-1]
		default:
			return min(last.Last, other.Last)
		}
	}
	return base
}

func (r *Replica) onAck(from string, m *Ack, out *Effects) {
	p := r.peer(from)
	if p == nil || m.Term != r.term || m.Round < p.first {
		return
	}
	if end := min(m.End, r.log.End()); end > p.acked {
		p.acked = end // of an earlier round, too: it is still there
		p.progress()
	}
	if m.Round < p.round || p.stage != following && p.stage != restoring {
		return
	}
	if !p.joined && p.stage == following {
		p.joined, out.Probe = true, true
		p.progress()
	}
	if s := p.snapshot; s != nil && m.Pieces > s.taken {
		s.taken = m.Pieces
		p.progress()
		if s.ahead == nil && s.taken == s.seq {
			p.sent, p.stage, p.snapshot = s.offset, following, nil
			p.joined, out.Probe = true, true
		}
	}
	p.land(m.Pieces)
	r.feed(p, false, out)
	if p.pinned && p.stage == following && p.acked >= r.commit {
		p.pinned = false
		r.pin()
	}
}

func (r *Replica) onRefuse(from string, m *Refuse, out *Effects) {
	if m.Term > r.term {
		r.adopt(m.Term, out)
		r.read(out)
		return
	}
	p := r.answered(from, m.Term, m.Round)
	if p == nil || p.stage != following || m.Need == 0 || m.Need > p.sent {
		return
	}
	// Something was lost on the way.
	p.sent, p.flights, p.flying = m.Need-1, nil, 0
	r.feed(p, false, out)
}

func (r *Replica) onLeave(from string, m *Leave, out *Effects) {
	switch {
	case m.Term < r.term:
		out.send(from, &Refuse{Term: r.term, Version: r.row.Version})
	case m.Term == r.term && r.lead != nil && r.peer(from) == nil:
		r.lead.rounds++
		out.send(from, &Release{Term: r.term, Version: r.row.Version, Round: r.lead.rounds})
	case m.Version > r.row.Version:
		r.read(out)
	}
}

// feed sends a member what it needs next, as far as the window allows; join:
// after its first answer.
func (r *Replica) feed(p *peer, join bool, out *Effects) {
	if p.stage == following && p.sent < r.log.Start() {
		p.flights, p.flying = nil, 0
		p.stage, p.pinned, p.snapshot = restoring, true, &transfer{}
		p.snapshot.offset, p.snapshot.next = r.log.Snapshot()
		p.snapshot.ahead = p.snapshot.next(r.cfg.Piece)
		r.pin()
	}
	switch p.stage {
	case restoring:
		r.pieces(p, out)
	case following:
		for join || p.sent < r.log.End() && p.flying < r.cfg.Window {
			r.entries(p, join, out)
			join = false
		}
	}
}

func (r *Replica) entries(p *peer, join bool, out *Effects) {
	m := &Append{Term: r.term, Round: p.round, Join: join, Prev: p.sent, Commit: r.commit}
	if p.sent < r.log.End() {
		m.Entries = r.log.After(p.sent, min(r.cfg.Batch, r.cfg.Window-p.flying))
		cost := 0
		for _, e := range m.Entries {
			cost += e.Cost()
		}
		p.sent += uint64(len(m.Entries))
		p.take(p.sent, 0, cost)
	}
	p.told = r.commit
	out.send(p.name, m)
}

func (r *Replica) pieces(p *peer, out *Effects) {
	s := p.snapshot
	for s.ahead != nil && s.seq < s.taken+maxPieces {
		m := &Piece{Term: r.term, Round: p.round, Offset: s.offset, Seq: s.seq, Data: s.ahead}
		s.seq++
		s.ahead = s.next(r.cfg.Piece)
		m.Last = s.ahead == nil
		p.take(0, s.seq, len(m.Data))
		out.send(p.name, m)
	}
}

// pin keeps in the log what members that take a snapshot need next.
func (r *Replica) pin() {
	from := NoPin
	for _, p := range r.lead.peers {
		switch {
		case p.pinned && p.snapshot != nil:
			from = min(from, p.snapshot.offset)
		case p.pinned:
			from = min(from, p.sent)
		}
	}
	r.log.Pin(from)
}

// tickPeer counts what a member is owing, and asks again.
func (r *Replica) tickPeer(p *peer, out *Effects) {
	pressing := p.acked < r.log.End()
	owes := pressing || !p.joined
	count(&p.late, pressing)
	count(&p.silent, owes)
	count(&p.quiet, true)
	p.watched = max(p.watched-1, 0)
	if r.fails(p) {
		p.ban()
	} else if p.well++; p.well >= r.cfg.Probation {
		p.banned = false
	}
	switch {
	case p.silent > 0 && p.silent%(3*r.cfg.Patience) == 0:
		r.ask(p, out)
	case p.stage == following && p.joined && p.flying == 0 && p.told < r.commit:
		r.entries(p, false, out)
	}
}

func count(ticks *int, more bool) {
	*ticks++
	if !more {
		*ticks = 0
	}
}
