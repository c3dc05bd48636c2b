package placement

import (
	"cmp"
	"slices"
)

// move is one step of a chain: a slot goes from a host to another.
type move struct {
	slot     *place
	from, to *host
}

// balance moves slots that are as desired, at the pace: for zones, then for
// copies, then for primaries. It reports whether it was the time for that.
func (a *assignment) balance() bool {
	if len(a.hosts) < 2 {
		return true
	}
	if a.pending || a.view.Cautious || a.now.Before(a.next) {
		return false
	}
	a.next = a.now.Add(a.cfg.Every)
	for i := range a.places {
		s := &a.places[i]
		if !a.atRest(s) {
			continue
		}
		for _, m := range s.desired {
			h := a.byMember[m]
			h.movable = append(h.movable, s)
		}
	}
	left := a.spreadOut(a.cfg.Burst)
	left = a.level(left, Balance, func(h *host) int { return h.copies }, a.copyFrom)
	if left == a.cfg.Burst && len(a.copying) == 0 { // copies take primaries with them
		a.level(left, Preferred, func(h *host) int { return h.primaries }, a.leadFrom)
	}
	return true
}

// settled reports whether nothing is to be done, or under way, or waits for a
// time to pass.
func (a *assignment) settled() bool {
	orders := a.view.Orders
	return len(a.changes) == 0 && len(a.waiting) == 0 && !a.view.Cautious &&
		len(a.absent) == 0 && len(a.copying) == 0 && len(orders.Move) == 0 && len(orders.Recover) == 0 &&
		!slices.ContainsFunc(a.until[:], a.now.Before)
}

// atRest reports whether a slot is as desired and may be moved.
func (a *assignment) atRest(s *place) bool {
	row := s.row
	return !s.changed && len(row.Replicas) > 0 && row.Primary == row.Replicas[0] &&
		slices.Equal(row.Replicas, s.desired) && !a.now.Before(a.until[s.slot]) &&
		len(row.InSync) == len(row.Replicas) &&
		!slices.ContainsFunc(row.Replicas, func(m string) bool {
			return a.byMember[m] == nil || !slices.Contains(row.InSync, m)
		})
}

// spreadOut moves slots into zones where they are not, and returns how many
// moves are left.
func (a *assignment) spreadOut(left int) int {
	for i := range a.places {
		s := &a.places[i]
		if left == 0 || len(a.copying) >= a.cfg.Copies {
			return left
		}
		if !a.atRest(s) || a.spread(s.desired) >= min(len(s.desired), a.zones) {
			continue
		}
		to := a.candidate(s.desired, nil)
		a.shift(move{s, a.spare(s.desired), to}, Zones)
		left--
	}
	return left
}

// spare is the host of a list that can go without a zone being lost: not the
// first if possible, else the one with the most copies.
func (a *assignment) spare(list []string) *host {
	var best *host
	for i, m := range slices.Backward(list) {
		without := slices.Delete(slices.Clone(list), i, i+1)
		if a.spread(without) < a.spread(list) {
			continue
		}
		if h := a.byMember[m]; best == nil || i > 0 && h.copies > best.copies {
			best = h
		}
	}
	return best
}

// level takes from hosts that have too much, in chains, until the moves or the
// chains have run out, and returns how many moves are left.
func (a *assignment) level(left int, why Reason, load func(*host) int, step func(from, to *host) *place) int {
	for left > 0 {
		if why == Balance && len(a.copying) >= a.cfg.Copies {
			return left
		}
		chain := a.chain(load, step)
		if chain == nil {
			return left
		}
		for _, m := range chain {
			a.shift(m, why)
			left--
		}
		left = max(left, 0)
	}
	return left
}

// chain returns the moves that take one from the fullest host that has any to
// give to one with at least two fewer; nil if there are none.
func (a *assignment) chain(load func(*host) int, step func(from, to *host) *place) []move {
	byLoad := slices.SortedStableFunc(slices.Values(a.hosts), func(x, y *host) int { return cmp.Compare(load(x), load(y)) })
	for _, from := range slices.Backward(byLoad) {
		if load(from) < load(byLoad[0])+2 {
			return nil
		}
		if chain := shortest(from, byLoad, load, step); chain != nil {
			return chain
		}
	}
	return nil
}

// shortest is a breadth-first search: first come the hosts with the least load.
func shortest(from *host, hosts []*host, load func(*host) int, step func(from, to *host) *place) []move {
	via := map[*host]move{from: {}}
	queue := []*host{from}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, to := range hosts {
			if _, seen := via[to]; seen {
				continue
			}
			s := step(at, to)
			if s == nil {
				continue
			}
			via[to] = move{s, at, to}
			if load(to)+2 <= load(from) {
				return path(via, to)
			}
			queue = append(queue, to)
		}
	}
	return nil
}

func path(via map[*host]move, to *host) []move {
	var chain []move
	for m := via[to]; m.slot != nil; m = via[m.from] {
		chain = append(chain, m)
	}
	return chain
}

// copyFrom returns a slot whose copy at one host may go to another, nil if there
// is none: one that the host leads if it leads more than the other.
func (a *assignment) copyFrom(from, to *host) *place {
	var second *place
	for _, s := range from.movable {
		if s.changed || slices.Contains(s.desired, to.Member) {
			continue
		}
		if a.zones > 1 && a.spread(exchanged(s.desired, from.Member, to.Member)) < a.spread(s.desired) {
			continue
		}
		if (s.desired[0] == from.Member) == (from.primaries > to.primaries) {
			return s
		}
		second = cmp.Or(second, s)
	}
	return second
}

// leadFrom returns a slot that one host leads and another holds.
func (a *assignment) leadFrom(from, to *host) *place {
	i := slices.IndexFunc(from.movable, func(s *place) bool {
		return !s.changed && s.desired[0] == from.Member && slices.Contains(s.desired, to.Member)
	})
	if i < 0 {
		return nil
	}
	return from.movable[i]
}

// shift plans a move.
func (a *assignment) shift(m move, why Reason) {
	list := exchanged(m.slot.desired, m.from.Member, m.to.Member)
	if why == Preferred {
		list = slices.Clone(m.slot.desired)
		front(list, m.to.Member)
	}
	a.wish(m.slot, list, why)
	a.until[m.slot.slot] = a.now.Add(a.cfg.Rest)
}

// exchanged is a list with one member in the place of another.
func exchanged(list []string, from, to string) []string {
	list = slices.Clone(list)
	list[slices.Index(list, from)] = to
	return list
}
