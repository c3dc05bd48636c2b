package placement

import (
	"cmp"
	"slices"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// first assigns a slot that nobody ever led.
func (a *assignment) first(s *place) {
	if len(a.hosts) == 0 {
		a.waiting[s.slot] = ForBrokers
		return
	}
	a.begin(s, nil, Unassigned)
}

// withoutPrimary promotes somebody if a slot's primary is gone, or starts the
// slot anew.
func (a *assignment) withoutPrimary(s *place) {
	next := a.successor(s.row)
	switch {
	case next != "" && a.out(s.row.Primary):
		a.promote(s, next)
	case next != "":
		a.waiting[s.slot] = ForCaution
	default:
		why, wait := a.anew(s)
		if wait != "" {
			a.waiting[s.slot] = wait
			return
		}
		a.begin(s, inSync(s.row), why)
	}
}

// successor is who is promoted when the primary is gone; empty: nobody can be.
func (a *assignment) successor(row shard.Row) string {
	best, bestRank := "", 0
	for _, m := range row.InSync {
		if m == row.Primary || !a.announces(m) {
			continue
		}
		rank := slices.Index(row.Replicas, m)
		if rank < 0 {
			rank = len(row.Replicas)
		}
		if a.byMember[m] == nil { // it drains
			rank += len(row.Replicas) + 1
		}
		if best == "" || rank < bestRank {
			best, bestRank = m, rank
		}
	}
	return best
}

func (a *assignment) promote(s *place, next string) {
	row := s.row
	row.Term++
	row.Primary, row.Addr = next, a.announced[next].Addr
	row.InSync = slices.DeleteFunc(slices.Clone(s.row.InSync), a.out)
	row.UncleanAfter = a.cfg.UncleanAfter
	absent := slices.DeleteFunc(slices.Clone(inSync(s.row)), func(m string) bool { return !a.out(m) })
	a.change(s, Change{Row: row, Absent: absent, Present: []string{next}, Why: Failover})
}

// anew says why a slot may start anew, or what it waits for.
func (a *assignment) anew(s *place) (Reason, Wait) {
	proven, doubtful := true, 0
	var last, doubted time.Time // since when all, and all doubtful ones, are absent
	for _, m := range inSync(s.row) {
		if a.replaced(m) {
			continue
		}
		proven = false
		since := a.absent[m]
		if since.After(last) {
			last = since
		}
		if !a.view.Lost[m] {
			doubtful++
			doubted = since
		}
	}
	switch {
	case len(a.hosts) == 0:
		return "", ForBrokers
	case a.view.Orders.Recover[s.slot]:
		return Recovered, ""
	case proven:
		return Lost, ""
	case a.view.Cautious:
		return "", ForCaution
	case doubtful == 0 && (!a.most() || a.now.Sub(last) >= a.massWait()):
		return Lost, ""
	case doubtful == 0:
		return "", ForMajority
	case doubtful > 1 || s.row.UncleanAfter == 0:
		return "", ForReturn
	case a.now.Sub(doubted) >= s.row.UncleanAfter:
		return Unclean, ""
	}
	return "", ForSilence
}

// begin gives a slot an empty log, at the present owners of the names that held
// the old one, or at others.
func (a *assignment) begin(s *place, absent []string, why Reason) {
	a.desire(s, nil)
	list := a.heirs(s.row)
	free := len(list) == 0
	if list = a.fill(list, nil); free {
		front(list, a.idlest(list))
	}
	a.desire(s, list)
	primary := a.announced[list[0]]
	a.change(s, Change{
		Row: shard.Row{
			Term: s.row.Term + 1, Primary: primary.Member, Addr: primary.Addr,
			InSync: list[:1:1], Replicas: list,
			Base: shard.NextBase(s.row.Base, a.now), UncleanAfter: a.cfg.UncleanAfter,
		},
		Absent: absent, Present: list[:1:1], Why: why,
	})
}

// heirs are the hosts whose names a row names.
func (a *assignment) heirs(row shard.Row) []string {
	var list []string
	for _, m := range members(row) {
		h := a.byMember[a.names[name(m)]]
		if h != nil && len(list) < a.cfg.Replicas && !slices.Contains(list, h.Member) {
			list = append(list, h.Member)
		}
	}
	return list
}

// idlest is who leads the fewest slots of some hosts.
func (a *assignment) idlest(list []string) string {
	return slices.MinFunc(list, func(x, y string) int {
		return cmp.Compare(a.byMember[x].primaries, a.byMember[y].primaries)
	})
}
