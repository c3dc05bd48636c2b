package holding

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// assignment is one plan in the making.
type assignment struct {
	*Planner
	now  time.Time
	view View

	announced map[string]*host // by member
	names     map[string]bool  // of these
	hosts     []*host          // those that take shards, by member
	pairs     map[pair]int     // what they will have together
	places    []place
	changes   []Change
}

// host is a process and what it will have when the plan is carried out.
type host struct {
	Process
	stays         bool // it is one of hosts
	firsts, holds int
}

// pair are the holders of a shard, by member.
type pair struct{ first, second string }

// place is a shard: its row, and what that is to become.
type place struct {
	shard    shard.PresenceShard
	row      shard.Holders
	next     shard.Holders
	absent   []string
	leaving  string // a holder that drains and was taken out
	waits    bool   // nothing can be done yet
	why      Reason
	balanced bool // both holders stay, and nothing is planned
}

func newAssignment(p *Planner, v View, now time.Time) *assignment {
	a := &assignment{
		Planner: p, now: now, view: v, announced: map[string]*host{}, names: map[string]bool{}, pairs: map[pair]int{},
		places: make([]place, shard.PresenceShards),
	}
	all := !slices.ContainsFunc(v.Processes, func(p Process) bool { return !p.Draining })
	for _, process := range v.Processes {
		h := &host{Process: process, stays: all || !process.Draining}
		a.announced[h.Member], a.names[name(h.Member)] = h, true
		if h.stays {
			a.hosts = append(a.hosts, h)
		}
	}
	slices.SortFunc(a.hosts, func(x, y *host) int { return cmp.Compare(x.Member, y.Member) })
	for i := range a.places {
		n := shard.PresenceShard(i)
		a.places[i] = place{shard: n, row: v.Table.Holders(n), next: v.Table.Holders(n)}
	}
	return a
}

func name(member string) string {
	name, _, _ := strings.Cut(member, "@")
	return name
}

// gone reports whether a member counts as gone.
func (a *assignment) gone(member string) bool {
	return member != "" && a.announced[member] == nil && (!a.view.Cautious || a.names[name(member)])
}

// leaves reports whether a member drains while others do not.
func (a *assignment) leaves(member string) bool {
	h := a.announced[member]
	return h != nil && !h.stays
}

func (a *assignment) stays(member string) bool {
	h := a.announced[member]
	return h != nil && h.stays
}

// keep takes out who is gone or leaves, and puts Second in the place of First.
func (a *assignment) keep(p *place) {
	h := &p.next
	for _, member := range []*string{&h.First, &h.Second} {
		if a.gone(*member) {
			p.absent, p.why = append(p.absent, *member), Gone
			*member = ""
		}
	}
	if h.First == "" && h.Second != "" {
		p.waits = a.announced[h.Second] == nil
		h.First, h.Second = h.Second, ""
	}
	if a.leaves(h.First) && a.stays(h.Second) && a.since(p, Settle) {
		p.leaving, p.why = h.First, cmp.Or(p.why, Draining)
		h.First, h.Second = h.Second, ""
	} else if a.leaves(h.Second) && a.announced[h.First] != nil && a.partner(h.First) != nil {
		p.leaving, p.why = h.Second, cmp.Or(p.why, Draining)
		h.Second = ""
	}
	a.count(*h, 1)
}

// since reports whether Second has been there for so long.
func (a *assignment) since(p *place, long time.Duration) bool {
	return a.now.Sub(a.came[p.shard]) >= long
}

// unripe reports whether time alone allows more.
func (a *assignment) unripe() bool {
	return slices.ContainsFunc(a.places, func(p place) bool { return p.row.Second != "" && !a.since(&p, Rest) })
}

// count adds to the load of holders.
func (a *assignment) count(h shard.Holders, n int) {
	if first := a.announced[h.First]; first != nil {
		first.firsts += n
		first.holds += n
	}
	if second := a.announced[h.Second]; second != nil {
		second.holds += n
		a.pairs[pair{h.First, h.Second}] += n
	}
}

// fill chooses holders where they lack, and plans the change.
func (a *assignment) fill(p *place) {
	if p.waits || len(a.hosts) == 0 {
		return
	}
	a.count(p.next, -1)
	if p.next.First == "" {
		p.next.First = slices.MinFunc(a.hosts, func(x, y *host) int {
			return cmp.Or(cmp.Compare(x.firsts, y.firsts), cmp.Compare(x.holds, y.holds))
		}).Member
	}
	if p.next.Second == "" {
		if second := a.partner(p.next.First); second != nil {
			p.next.Second = second.Member
		} else {
			p.next.Second = p.leaving // there is nobody else
		}
	}
	a.count(p.next, 1)
	if p.row.Version == 0 {
		p.why = Unassigned
	}
	a.change(p, cmp.Or(p.why, Repair))
}

// about is how many holdings more or less do not matter at first.
const about = 8

// partner chooses who is to be Second beside a First: in another zone if there
// is one, with about the least to hold and the least together with it, so that
// many take over from one that goes; nil if there is nobody.
func (a *assignment) partner(first string) *host {
	zone := ""
	if h := a.announced[first]; h != nil {
		zone = h.Zone
	}
	var best *host
	for _, h := range a.hosts {
		if h.Member == first {
			continue
		}
		if best == nil || cmp.Or(
			compare(h.Zone == zone, best.Zone == zone),
			cmp.Compare(h.holds/about, best.holds/about),
			cmp.Compare(a.pairs[pair{first, h.Member}], a.pairs[pair{first, best.Member}]),
			cmp.Compare(h.holds, best.holds),
		) < 0 {
			best = h
		}
	}
	return best
}

// compare puts false first.
func compare(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return 1
	}
	return -1
}

// change plans what has become of a row, if anything has.
func (a *assignment) change(p *place, why Reason) {
	old, next := p.row, p.next
	if next.First == old.First && next.Second == old.Second {
		p.balanced = a.stays(next.First) && a.stays(next.Second)
		return
	}
	var present []string
	if next.First != old.First {
		present = append(present, next.First)
		p.next.Epoch++
		if old.First == "" {
			p.next.Epoch = max(p.next.Epoch, uint64(max(a.now.Unix(), 0)))
		}
	}
	if next.Second != "" && !old.Has(next.Second) {
		present = append(present, next.Second)
	}
	p.next = p.next.Follow(old)
	a.changes = append(a.changes, Change{Shard: p.shard, Holders: p.next, Absent: p.absent, Present: present, Why: why})
}
