package replica

import (
	"slices"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// plan writes the row if it should be another one: at most one write is on its
// way, and none is begun before the outcome of the last is known or the row was
// read again.
func (r *Replica) plan(out *Effects) {
	switch {
	case r.writing != nil || r.reading:
	case r.lead != nil:
		r.planLead(out)
	case r.row.Primary == r.cfg.Self && r.row.Term == r.term && r.row.Term <= r.born &&
		r.row.Base >= r.log.Base() && slices.Contains(r.row.InSync, r.cfg.Self):
		// Entries of this term that were not held may have gone out before.
		next := r.row
		next.Term++
		next.UncleanAfter = 0
		r.write(next, nil, out)
	}
}

func (r *Replica) planLead(out *Effects) {
	if r.lead.settled && !r.lead.moving && !slices.ContainsFunc(r.lead.peers, r.fails) {
		return // nearly always
	}
	failed := func(m string) bool { p := r.peer(m); return p != nil && r.fails(p) }
	next := r.row
	next.UncleanAfter = r.cfg.UncleanAfter
	switch {
	case slices.ContainsFunc(next.InSync, failed):
		r.lead.moving = false
		next.InSync = slices.DeleteFunc(slices.Clone(next.InSync), failed)
		r.write(next, nil, out)
	case r.lead.moving && !r.wantsMove():
		r.lead.moving = false // what is desired has changed
		r.planLead(out)
	case r.lead.moving:
		if r.commit == r.log.End() {
			next.Term++
			next.Primary = next.Replicas[0]
			next.UncleanAfter = 0
			r.write(next, []string{next.Primary}, out)
		}
	case r.surplus() != "":
		surplus := r.surplus()
		next.InSync = slices.DeleteFunc(slices.Clone(next.InSync), func(m string) bool { return m == surplus })
		r.write(next, nil, out)
	case r.returning() != "":
		member := r.returning()
		next.InSync = append(slices.Clone(next.InSync), member)
		r.write(next, []string{member}, out)
	case len(r.unsure) > 0 || next.UncleanAfter != r.row.UncleanAfter:
		r.write(next, nil, out) // after which those unsure are not applied any more
	case r.lead.wait == 0 && r.mayMove():
		r.lead.moving, r.lead.wait = true, r.cfg.Patience
		r.planLead(out)
	}
}

// surplus is a member in sync that is not desired, once all desired ones are in
// sync, or empty.
func (r *Replica) surplus() string {
	for _, m := range r.row.Replicas {
		if !slices.Contains(r.row.InSync, m) {
			return ""
		}
	}
	if len(r.row.Replicas) == 0 {
		return ""
	}
	for _, m := range r.row.InSync {
		if m != r.cfg.Self && !slices.Contains(r.row.Replicas, m) {
			return m
		}
	}
	return ""
}

// returning is a desired member that may be added, or empty: one that holds all
// that was committed in this term or before, whatever this primary knew of it.
// From now on every commit waits for it.
func (r *Replica) returning() string {
	for _, m := range r.row.Replicas {
		p := r.peer(m)
		if p == nil || slices.Contains(r.row.InSync, m) {
			continue
		}
		if p.joined && r.trusts(p) && p.acked >= max(r.commit, r.lead.inherited) {
			return m
		}
	}
	return ""
}

// trusts reports whether a member is well enough to be waited for. One that
// failed has to be well for the time of its probation, unless this primary has
// the only copy and is to give it away: then the copy is in more danger than
// the pace of the slot.
func (r *Replica) trusts(p *peer) bool {
	leaves := len(r.row.InSync) == 1 && !slices.Contains(r.row.Replicas, r.cfg.Self)
	return !p.banned || leaves && p.well >= r.cfg.Patience
}

// wantsMove reports whether another member in sync should be primary.
func (r *Replica) wantsMove() bool {
	return len(r.row.Replicas) > 0 && r.row.Replicas[0] != r.cfg.Self && slices.Contains(r.row.InSync, r.row.Replicas[0])
}

// mayMove reports whether the slot may be handed over now, since nobody keeps
// commits waiting.
func (r *Replica) mayMove() bool {
	late := func(p *peer) bool { return p.waits && (!p.joined || p.late > 1) }
	return r.wantsMove() && r.lead.serving && !slices.ContainsFunc(r.lead.peers, late)
}

// tickMove gives a hand-over up that takes too long, even one that is being
// written: without the target's acknowledgement nothing can be committed.
func (r *Replica) tickMove() {
	if r.lead.wait > 0 {
		r.lead.wait--
	}
	if r.lead.moving && r.lead.wait == 0 {
		r.lead.moving, r.lead.wait = false, r.cfg.Patience
	}
}

func (r *Replica) write(next shard.Row, present []string, out *Effects) {
	r.writing = &Write{Row: next, Present: present}
	out.Write = r.writing
	if r.lead != nil {
		r.recount(out)
	}
}

// Written tells what became of the write that is on its way; version is that
// of the row if it was applied.
func (r *Replica) Written(now time.Time, outcome Outcome, version int64, out *Effects) {
	w := r.writing
	if w == nil {
		return
	}
	r.writing = nil
	if r.lead != nil && r.lead.moving {
		r.lead.moving, r.lead.wait = false, r.cfg.Patience
	}
	switch {
	case outcome == Applied:
		w.Row.Version = version
		r.Row(now, w.Row, out)
		return
	case w.Row.Version != r.row.Version:
		// A newer row was heard since.
	case outcome == Unknown:
		r.unsure = append(r.unsure, w.Row)
		r.read(out)
	default:
		r.refused = w
		r.read(out)
	}
	if r.lead != nil {
		r.recount(out)
	}
	r.proceed(now, out)
}

// reread takes note that the row is still the same.
func (r *Replica) reread() {
	if r.reading = false; r.refused == nil || r.lead == nil {
		return
	}
	for _, m := range r.refused.Present { // so that one was absent
		if p := r.peer(m); p != nil {
			p.ban()
		}
	}
	r.refused = nil
}
