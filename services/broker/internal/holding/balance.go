package holding

import (
	"cmp"
	"slices"
)

// balance changes rows of holders that stay, at the pace. It reports whether it
// was the time for that.
func (a *assignment) balance() bool {
	if len(a.hosts) < 2 {
		return true
	}
	if a.view.Cautious || a.now.Before(a.next) {
		return false
	}
	left := a.spread(Burst)
	left = a.level(left, Balance, func(h *host) int { return h.holds }, a.replaced)
	if left == Burst { // what is held decides who can be first
		left = a.level(left, Preferred, func(h *host) int { return h.firsts }, a.exchanged)
	}
	if left < Burst {
		a.next = a.now.Add(Every)
	}
	return true
}

// spread gives shards that are held in one zone to another, and returns how many
// moves are left.
func (a *assignment) spread(left int) int {
	for i := range a.places {
		p := &a.places[i]
		if left == 0 {
			return 0
		}
		if !p.balanced || a.announced[p.next.First].Zone != a.announced[p.next.Second].Zone {
			continue
		}
		if to := a.partner(p.next.First); to.Zone != a.announced[p.next.First].Zone {
			a.shift(move{p, a.announced[p.next.Second], to}, Zones)
			left--
		}
	}
	return left
}

// move takes a shard, or the first place of it, from a host to another.
type move struct {
	place    *place
	from, to *host
}

// level takes from hosts that have too much, in chains, until the moves or the
// chains have run out, and returns how many moves are left.
func (a *assignment) level(left int, why Reason, load func(*host) int, step func(from, to *host) *place) int {
	for left > 0 {
		chain := a.chain(load, step)
		if chain == nil || len(chain) > left {
			return left
		}
		for _, m := range chain {
			a.shift(m, why)
			left--
		}
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
	for queue := []*host{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, to := range hosts {
			if _, seen := via[to]; seen {
				continue
			}
			p := step(at, to)
			if p == nil {
				continue
			}
			via[to] = move{p, at, to}
			if load(to)+2 <= load(from) {
				var chain []move
				for m := via[to]; m.place != nil; m = via[m.from] {
					chain = append(chain, m)
				}
				return chain
			}
			queue = append(queue, to)
		}
	}
	return nil
}

// replaced returns a shard of which one host is Second and another can be, nil
// if there is none: one whose First is the first of most, but for those that the
// other can take over already.
func (a *assignment) replaced(from, to *host) *place {
	var best *place
	var most int
	for i := range a.places {
		p := &a.places[i]
		if !p.balanced || p.next.Second != from.Member || p.next.First == to.Member {
			continue
		}
		first := a.announced[p.next.First]
		if to.Zone == first.Zone && from.Zone != first.Zone {
			continue
		}
		if firsts := first.firsts - a.pairs[pair{first.Member, to.Member}]; best == nil || firsts > most {
			best, most = p, firsts
		}
	}
	return best
}

// exchanged returns a shard whose holders can change places, nil if there is
// none.
func (a *assignment) exchanged(from, to *host) *place {
	i := slices.IndexFunc(a.places, func(p place) bool {
		return p.balanced && p.next.First == from.Member && p.next.Second == to.Member && a.since(&p, Rest)
	})
	if i < 0 {
		return nil
	}
	return &a.places[i]
}

// shift plans a move.
func (a *assignment) shift(m move, why Reason) {
	a.count(m.place.next, -1)
	if why == Preferred {
		m.place.next.First, m.place.next.Second = m.place.next.Second, m.place.next.First
	} else {
		m.place.next.Second = m.to.Member
	}
	a.count(m.place.next, 1)
	m.place.balanced = false
	a.change(m.place, why)
}
