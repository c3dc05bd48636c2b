package placement

import (
	"slices"

	"github.com/comet-push/comet/internal/shard"
)

// kept are those of a row's desired members that stay desired. One that was
// replaced leaves its place to its successor. If the first one goes, somebody
// in sync becomes the first.
func (a *assignment) kept(row shard.Row) []string {
	var list []string
	firstStays := false
	for i, m := range row.Replicas {
		m = a.heir(m)
		if a.dropped(m) || slices.Contains(list, m) {
			continue
		}
		list = append(list, m)
		firstStays = firstStays || i == 0
	}
	for _, m := range row.Replicas {
		if firstStays || slices.Contains(row.InSync, m) && front(list, m) {
			break
		}
	}
	return list
}

// heir is who has the place of a member now.
func (a *assignment) heir(member string) string {
	if a.replaced(member) {
		return a.names[name(member)]
	}
	return member
}

// dropped reports whether a member may not stay desired.
func (a *assignment) dropped(member string) bool {
	if a.announces(member) {
		return a.byMember[member] == nil // it drains
	}
	since, absent := a.absent[member]
	return absent && (a.view.Lost[member] || a.now.Sub(since) >= a.cfg.RepairAfter)
}

// front brings a member of a list to its front; false if it is not in it.
func front(list []string, member string) bool {
	i := slices.Index(list, member)
	if i < 0 {
		return false
	}
	copy(list[1:i+1], list[:i])
	list[0] = member
	return true
}

// adjust says who should hold a slot that is led.
func (a *assignment) adjust(s *place) {
	if len(a.hosts) == 0 || a.handsOver(s.row) {
		return
	}
	list := slices.Clone(s.desired)
	for len(list) > a.cfg.Replicas {
		list = a.shorten(list, s.row.InSync)
	}
	if len(list) == 0 { // nobody who is desired stays: whoever is in sync is next
		list = slices.DeleteFunc(slices.Clone(s.row.InSync), func(m string) bool { return a.byMember[m] == nil })
		list = list[:min(1, len(list))]
	}
	list = a.fill(list, s.row.InSync)
	if r := s.row.Replicas; len(r) == 0 || list[0] != a.heir(r[0]) {
		front(list, s.row.Primary) // the wish of before is gone: spare a hand-over
	}
	if !a.stays(s.row.Primary) {
		ahead(list, s.row.InSync)
	}
	why := Repair
	if slices.ContainsFunc(s.row.Replicas, func(m string) bool { return a.announces(m) && a.byMember[m] == nil }) {
		why = Draining
	}
	if to := a.byMember[a.names[a.view.Orders.Move[s.slot]]]; to != nil && list[0] != to.Member {
		a.wish(s, a.led(list, to.Member), Ordered)
		a.until[s.slot] = a.now.Add(orderRest)
		return
	}
	if slices.Equal(list, s.row.Replicas) {
		return
	}
	if _, underWay := a.copying[s.slot]; !underWay && len(a.copying) >= a.limit(s.row) && a.needsCopy(list, s.row.InSync) {
		a.pending = true
		a.desire(s, list)
		a.yield(s)
		return
	}
	a.wish(s, list, why)
}

// ahead brings somebody in sync to the front of a list, if there is one.
func ahead(list, inSync []string) {
	i := slices.IndexFunc(list, func(m string) bool { return slices.Contains(inSync, m) })
	if i > 0 {
		front(list, list[i])
	}
}

// handsOver reports whether a primary is about to hand over.
func (a *assignment) handsOver(row shard.Row) bool {
	if len(row.Replicas) == 0 {
		return false
	}
	to := row.Replicas[0]
	return to != row.Primary && a.byMember[to] != nil && slices.Contains(row.InSync, to)
}

func (a *assignment) needsCopy(list, inSync []string) bool {
	return slices.ContainsFunc(list, func(m string) bool { return a.announces(m) && !slices.Contains(inSync, m) })
}

// limit is how many slots may be copied at a time for another to begin: more
// where nobody in sync stays. Copies that get nowhere, since the two are out of
// each other's reach, count too, and who leaves waits for a short time only.
func (a *assignment) limit(row shard.Row) int {
	if slices.ContainsFunc(row.InSync, a.stays) {
		return a.cfg.Copies
	}
	return 4 * a.cfg.Copies
}

// yield lets somebody in sync lead a slot whose primary drains, while a copy
// that could take the primary's place has to wait.
func (a *assignment) yield(s *place) {
	if a.byMember[s.row.Primary] != nil {
		return
	}
	list := slices.Clone(s.row.Replicas)
	for _, m := range s.row.InSync {
		if a.byMember[m] == nil {
			continue
		}
		if !front(list, m) {
			list = slices.Insert(list, 0, m)
		}
		row := s.row
		row.Replicas = list
		a.change(s, Change{Row: row, Why: Draining})
		return
	}
}

// shorten takes one off a list, not the first: who is not in sync, else who
// leaves the others in most zones, else who has the most.
func (a *assignment) shorten(list, inSync []string) []string {
	worst, worstRank := 0, 0
	for i := 1; i < len(list); i++ {
		rest := slices.Delete(slices.Clone(list), i, i+1)
		rank := a.spread(rest) << 16
		if !slices.Contains(inSync, list[i]) {
			rank += 1 << 32
		}
		if h := a.byMember[list[i]]; h != nil {
			rank += h.copies
		}
		if worst == 0 || rank > worstRank {
			worst, worstRank = i, rank
		}
	}
	return slices.Delete(list, worst, worst+1)
}

// led is a list with a member at its front: in the place of another if it is
// new, of the one without whom the others are in most zones.
func (a *assignment) led(list []string, member string) []string {
	list = slices.Clone(list)
	if front(list, member) {
		return list
	}
	if len(list) < a.cfg.Replicas {
		return slices.Insert(list, 0, member)
	}
	var best []string
	for i := range list {
		with := slices.Insert(slices.Delete(slices.Clone(list), i, i+1), 0, member)
		if best == nil || a.spread(with) > a.spread(best) {
			best = with
		}
	}
	return best
}
