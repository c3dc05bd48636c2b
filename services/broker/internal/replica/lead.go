package replica

import (
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// lead is what a primary knows.
type lead struct {
	inherited uint64  // end of the log when the term began
	serving   bool    // all of that is committed
	peers     []*peer // by name

	// alone is the shortest UncleanAfter of the rows that may be in etcd and
	// name nobody else in sync; 0: none.
	alone  time.Duration
	least  int    // members in sync in the shortest of these rows
	rounds uint64 // how many were begun

	settled bool // the row is as it is desired: those in sync, and the primary
	asked   bool // for a turn to hand over
	moving  bool // nothing is accepted: the slot is being handed over
	age     int  // ticks, as far as that matters
	wait    int  // ticks until the next hand-over is tried, or this one given up
}

// takeLead begins the term of the newest row if that names this member primary.
func (r *Replica) takeLead(now time.Time, out *Effects) {
	switch {
	case r.lead != nil || r.row.Primary != r.cfg.Self || r.row.Term != r.term || r.row.Term <= r.born:
		return // the last: claims a term of its own first, see plan
	case r.row.Base < r.log.Base() || !slices.Contains(r.row.InSync, r.cfg.Self):
		out.alarm(Unfit, r.cfg.Self, nil)
		return
	case r.row.Base > r.log.Base():
		r.reset(r.row.Base)
	}
	if r.log.Held() == 0 {
		return // it could forget that it led in this term
	}
	r.lead = &lead{inherited: r.log.End()}
	r.recount(out)
	r.advance(now, out)
}

// possible calls visit with every row that may now be the one in etcd, whatever
// became of the writes that are not answered (R2).
func (r *Replica) possible(visit func(shard.Row)) {
	visit(r.row)
	for _, row := range r.unsure {
		visit(row)
	}
	if r.writing != nil && r.writing.Row.Version == r.row.Version {
		visit(r.writing.Row)
	}
}

// recount makes the peers those that the primary waits for or that are desired.
func (r *Replica) recount(out *Effects) {
	var waits []string
	r.lead.alone, r.lead.least = 0, len(r.row.InSync)
	r.possible(func(row shard.Row) {
		waits = append(waits, row.InSync...)
		r.lead.least = min(r.lead.least, len(row.InSync))
		if u := row.UncleanAfter; len(row.InSync) == 1 && u > 0 && (r.lead.alone == 0 || u < r.lead.alone) {
			r.lead.alone = u
		}
	})
	needed := slices.Concat(waits, r.row.Replicas)
	r.lead.peers = slices.DeleteFunc(r.lead.peers, func(p *peer) bool { return !slices.Contains(needed, p.name) })
	for _, name := range needed {
		if name != r.cfg.Self && r.peer(name) == nil {
			p := &peer{name: name, first: r.lead.rounds + 1} // it may have left, and dropped its log
			r.lead.peers = append(r.lead.peers, p)
			r.ask(p, out)
		}
	}
	slices.SortFunc(r.lead.peers, func(a, b *peer) int { return strings.Compare(a.name, b.name) })
	for _, p := range r.lead.peers {
		p.waits = slices.Contains(waits, p.name)
	}
	r.lead.settled = r.isSettled()
}

// isSettled reports whether the row needs no change while nobody fails.
func (r *Replica) isSettled() bool {
	if r.row.UncleanAfter != r.cfg.UncleanAfter || len(r.unsure) > 0 || r.wantsMove() || r.hasSurplus() {
		return false
	}
	return !slices.ContainsFunc(r.row.Replicas, func(m string) bool { return !slices.Contains(r.row.InSync, m) })
}

// advance commits what everybody the primary waits for holds (R6).
func (r *Replica) advance(now time.Time, out *Effects) {
	upto := r.log.Held()
	for _, p := range r.lead.peers {
		if p.waits {
			upto = min(upto, p.acked)
		}
	}
	if upto > r.commit && !r.isolated(now) {
		r.commit, out.Commit = upto, upto
		out.Few = out.Few || r.lead.least < r.cfg.MinInSync
		for _, p := range r.lead.peers {
			r.tell(p, out)
		}
	}
	if !r.lead.serving && r.commit >= r.lead.inherited {
		r.lead.serving, out.Serve = true, true
	}
}

// isolated reports whether the controller may by now have given the log up for
// the silence of its only member (CORRECTNESS rule 4).
func (r *Replica) isolated(now time.Time) bool {
	return r.lead.alone > 0 && now.Sub(r.renewed) > r.lead.alone/2
}

// Admit reports whether a publish may be appended now, or why not.
func (r *Replica) Admit(now time.Time) error {
	switch {
	case r.lead == nil:
		return ErrMoved
	case r.lead.moving:
		return ErrMoving
	case r.lead.least < r.cfg.MinInSync:
		return ErrUnderReplicated
	case r.isolated(now):
		return ErrIsolated
	}
	return nil
}

// AsOf returns a time when nobody had committed anything beyond this member's
// commit mark; false if there is none. A primary was surely the slot's only one
// then, a copy that relays has asked it. A freshness mark may be sent while that
// is at most one heartbeat ago (R14), and a read is the newest there is if that
// is not before the read came.
func (r *Replica) AsOf(now time.Time) (time.Time, bool) {
	switch {
	case r.relays:
		return r.leader.asOf, !r.leader.asOf.IsZero()
	case r.lead == nil || !r.lead.serving:
		return time.Time{}, false
	}
	asOf := now
	if r.isolated(now) {
		asOf = r.renewed.Add(r.lead.alone / 2)
	}
	for _, p := range r.lead.peers {
		switch {
		case !p.waits:
		case p.heard.IsZero():
			return time.Time{}, false
		case p.heard.Before(asOf):
			asOf = p.heard
		}
	}
	return asOf, true
}
