package replica

import (
	"slices"

	"github.com/comet-push/comet/internal/shard"
)

// etcd is a register for each slot, and a key for each node.
type etcd struct {
	down    bool
	since   int64 // when the outage began
	version int64
	keys    []key
	writes  []*request
}

// key is what a node announces.
type key struct {
	member  string
	expires int64
	since   int64
}

// request is a primary's write.
type request struct {
	p        *place
	member   string
	write    *Write
	arrived  bool // it had its effect, or will have none
	outcome  Outcome
	version  int64
	answered bool
}

func (w *world) present(member string) bool {
	for i := range w.etcd.keys {
		if k := &w.etcd.keys[i]; k.member == member {
			return k.expires > w.now
		}
	}
	return false
}

// lost reports whether another log-id was announced under a member's name.
func (w *world) lost(member string) bool {
	k := w.etcd.keys[nameOf(member)]
	return k.member != "" && k.member != member
}

func nameOf(member string) int { return int(member[1] - '0') }

// swap replaces a row if it still is of a version.
func (w *world) swap(slot int, row shard.Row) (int64, bool) {
	book := w.books[slot]
	if book.row().Version != row.Version {
		return 0, false
	}
	w.etcd.version++
	row.Version = w.etcd.version
	row.InSync, row.Replicas = slices.Clone(row.InSync), slices.Clone(row.Replicas)
	w.trace("etcd: %+v", row)
	book.wrote(row)
	return row.Version, true
}

func (p *place) wrote(write *Write) {
	p.n.w.trace("%s writes %+v if %v", p.n.member, write.Row, write.Present)
	p.n.w.justified(p, write)
	p.n.w.etcd.writes = append(p.n.w.etcd.writes, &request{p: p, member: p.n.member, write: write})
}

// justified checks that a member is removed only after it was given time.
func (w *world) justified(p *place, write *Write) {
	if p.rep.lead == nil {
		return
	}
	if write.Row.Term != p.rep.row.Term {
		p.book.require(p.log.commit == p.log.end(), "rule 30: %s hands over up to %d, and has committed %d",
			p.n.member, p.log.end(), p.log.commit)
		return
	}
	for _, m := range write.Row.InSync {
		if n := p.news[m]; n != nil && n.removed > 0 && !slices.Contains(p.rep.row.InSync, m) {
			least := probation
			if len(p.rep.row.InSync) == 1 && !slices.Contains(p.rep.row.Replicas, p.n.member) {
				least = patience // it gives the only copy away
			}
			p.book.require(p.n.ticks-n.removed >= least, "rule 15: %s adds %s %d ticks after it failed",
				p.n.member, m, p.n.ticks-n.removed)
		}
	}
	desired := p.rep.row.Replicas
	for _, m := range p.rep.row.InSync {
		failed := p.rep.peer(m) != nil && p.rep.fails(p.rep.peer(m))
		if !slices.Contains(write.Row.InSync, m) && !slices.Contains(desired, m) && !failed {
			p.book.require(!slices.ContainsFunc(desired, func(m string) bool { return !slices.Contains(write.Row.InSync, m) }),
				"rule 30: %s removes %s before %v are all in sync", p.n.member, m, desired)
		}
		if slices.Contains(write.Row.InSync, m) || !slices.Contains(p.rep.row.Replicas, m) || w.lost(m) {
			continue
		}
		heard := p.news[m]
		if heard == nil {
			heard = &news{tick: p.began, alive: p.began}
			p.news[m] = heard
		}
		heard.removed = p.n.ticks
		late := p.n.ticks - heard.tick
		if i := int(heard.end) - int(p.inherited); i >= 0 && i < len(p.made) {
			late = min(late, p.n.ticks-p.made[i])
		}
		longest := p.n.ticks - min(heard.alive, max(heard.tick, heard.moved))
		p.book.require(late >= patience || longest >= 3*patience, "rule 15: %s removes %s after %d ticks",
			p.n.member, m, late)
	}
}

// arrive lets a write have its effect.
func (w *world) arrive(r *request) {
	r.arrived = true
	r.outcome = Refused
	for _, m := range r.write.Present {
		if !w.present(m) {
			return
		}
	}
	if version, ok := w.swap(r.p.slot, r.write.Row); ok {
		r.outcome, r.version = Applied, version
		w.count.writes++
	}
}

// answer tells the primary, if it still lives.
func (w *world) answer(r *request, outcome Outcome) {
	r.answered = true
	n := r.p.n
	if !n.alive || n.member != r.member || n.places[r.p.slot] != r.p {
		return
	}
	w.trace("%s: outcome %d version %d", n.member, outcome, r.version)
	r.p.term = max(r.p.term, 0)
	if outcome == Applied {
		r.p.term = max(r.p.term, r.write.Row.Term)
	}
	r.p.rep.Written(w.clock(), outcome, r.version, &r.p.out)
	r.p.perform()
}

// stepWrite moves one write on.
func (w *world) stepWrite() {
	if len(w.etcd.writes) == 0 {
		return
	}
	i := w.rng.IntN(len(w.etcd.writes))
	r := w.etcd.writes[i]
	alive := r.p.n.member == r.member && r.p.n.runs()
	switch chance := w.rng.IntN(16); {
	case !r.arrived && !w.etcd.down && (w.calm || chance < 9):
		w.arrive(r)
	case !r.arrived && !w.calm && chance == 9:
		r.arrived = true // lost on its way
		r.outcome = Unknown
	case !r.answered && alive && !w.calm && (chance > 13 || !r.p.n.reaches()):
		w.answer(r, Unknown) // though it may still arrive
	case r.arrived && !r.answered && alive:
		w.answer(r, r.outcome)
	case !alive && !r.answered:
		r.answered = !r.p.n.alive || r.p.n.member != r.member
	}
	if r.arrived && r.answered {
		w.etcd.writes = slices.Delete(w.etcd.writes, i, i+1)
	}
}

// readRow is a linearizable read.
func (w *world) readRow(p *place) {
	p.reading = false
	if row := p.book.row(); row.Version > 0 {
		p.n.seen[p.slot] = max(p.n.seen[p.slot], len(p.book.rows))
		p.row(row)
	}
}

// watch shows a node a row it has not seen.
func (w *world) watch(n *node) {
	if !n.reaches() {
		return
	}
	for s, p := range n.places {
		if p.rep.lead != nil {
			for _, m := range p.rep.row.InSync {
				if w.lost(m) {
					p.rep.Lost(w.clock(), m, &p.out)
					p.perform()
				}
			}
		}
		if p.reading && (w.calm || w.rng.IntN(2) == 0) {
			w.readRow(p)
		}
		rows := p.book.rows
		if news := len(rows) - n.seen[s]; news > 0 {
			step := news
			if !w.calm {
				step = 1 + w.rng.IntN(news)
			}
			n.seen[s] += step
			p.row(rows[n.seen[s]-1])
		}
	}
}
