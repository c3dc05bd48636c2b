package placement

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// assignment is a plan in the making.
type assignment struct {
	*Planner
	now       time.Time
	view      View
	announced map[string]Broker // by member
	names     map[string]string // announced: name -> member
	hosts     []*host           // announced and not draining, by member
	byMember  map[string]*host
	zones     int // of hosts
	places    [shard.Slots]place
	pending   bool // something is to be repaired, and waits for the pace
	changes   []Change
	waiting   map[shard.Slot]Wait
}

// host is a broker that may be given slots.
type host struct {
	Broker
	copies    int           // slots that it should hold
	primaries int           // and lead
	shared    map[*host]int // and that the other should hold, too
	movable   []*place
}

// place is one slot.
type place struct {
	slot    shard.Slot
	row     shard.Row
	desired []string // who should hold it, as far as that is decided; counted at the hosts
	changed bool     // by this plan
}

func newAssignment(p *Planner, v View, now time.Time) *assignment {
	a := &assignment{
		Planner: p, now: now, view: v,
		announced: map[string]Broker{}, names: map[string]string{}, byMember: map[string]*host{},
		waiting: map[shard.Slot]Wait{},
	}
	zones := map[string]bool{}
	for _, b := range v.Brokers {
		a.announced[b.Member] = b
		a.names[name(b.Member)] = b.Member
		if b.Draining {
			continue
		}
		h := &host{Broker: b, shared: map[*host]int{}}
		a.hosts = append(a.hosts, h)
		a.byMember[b.Member] = h
		zones[b.Zone] = true
	}
	a.zones = len(zones)
	slices.SortFunc(a.hosts, func(x, y *host) int { return cmp.Compare(x.Member, y.Member) })
	for n := range a.places {
		a.places[n] = place{slot: shard.Slot(n), row: v.Table.Row(shard.Slot(n))}
	}
	a.noteAbsent()
	a.noteCopies()
	for n := range a.places {
		s := &a.places[n]
		a.desire(s, a.kept(s.row))
	}
	return a
}

// noteAbsent keeps the times since when members are absent.
func (a *assignment) noteAbsent() {
	if a.view.Cautious {
		clear(a.absent)
		return
	}
	named := map[string]bool{}
	for i := range a.places {
		for _, m := range members(a.places[i].row) {
			named[m] = true
		}
	}
	for m := range a.absent {
		if !named[m] || a.announces(m) || a.replaced(m) {
			delete(a.absent, m)
		}
	}
	for m := range named {
		if _, known := a.absent[m]; !known && !a.announces(m) && !a.replaced(m) {
			a.absent[m] = a.now
		}
	}
}

// noteCopies forgets copies that are finished, given up, or late.
func (a *assignment) noteCopies() {
	for n, b := range a.copying {
		row := a.places[n].row
		open := slices.ContainsFunc(row.Replicas, func(m string) bool {
			return a.announces(m) && !slices.Contains(row.InSync, m)
		})
		patience := copyPatience
		if !a.stays(row.Primary) {
			patience = drainPatience
		}
		if row.Version > b.version && !open || a.now.Sub(b.at) > patience {
			delete(a.copying, n)
		}
	}
}

// stays reports whether a member is announced and does not drain.
func (a *assignment) stays(member string) bool { return a.byMember[member] != nil }

// most reports whether more than half of the brokers vanished of late.
func (a *assignment) most() bool {
	recent := 0
	for _, since := range a.absent {
		if a.now.Sub(since) < a.massWait() {
			recent++
		}
	}
	return 2*recent > len(a.announced)+recent
}

func (p *Planner) massWait() time.Duration { return cmp.Or(p.cfg.UncleanAfter, massWait) }

func (a *assignment) announces(member string) bool {
	_, ok := a.announced[member]
	return ok
}

// replaced reports whether another id is announced under the member's name.
func (a *assignment) replaced(member string) bool {
	other, ok := a.names[name(member)]
	return ok && other != member
}

// out reports whether a member counts as not there.
func (a *assignment) out(member string) bool {
	return a.replaced(member) || !a.announces(member) && !a.view.Cautious
}

// desire sets who should hold a slot, in this plan's accounts.
func (a *assignment) desire(s *place, list []string) {
	a.count(s.desired, -1)
	s.desired = list
	a.count(s.desired, 1)
}

func (a *assignment) count(list []string, by int) {
	for i, m := range list {
		h := a.byMember[m]
		if h == nil {
			continue
		}
		h.copies += by
		if i == 0 {
			h.primaries += by
		}
		for _, o := range list[:i] {
			if other := a.byMember[o]; other != nil {
				h.shared[other] += by
				other.shared[h] += by
			}
		}
	}
}

// change plans to write a row.
func (a *assignment) change(s *place, c Change) {
	c.Slot, c.Row.Version = s.slot, s.row.Version
	s.changed = true
	a.changes = append(a.changes, c)
}

// wish plans to write who should hold a slot.
func (a *assignment) wish(s *place, list []string, why Reason) {
	if slices.ContainsFunc(list, func(m string) bool { return !slices.Contains(s.row.InSync, m) }) {
		a.copying[s.slot] = begun{a.now, s.row.Version}
	}
	a.desire(s, list)
	row := s.row
	row.Replicas = list
	a.change(s, Change{Row: row, Why: why})
}

// candidate returns who should join those in list, nil if there is nobody:
// other zones first, then who is in sync already, then the least loaded, then
// who shares the fewest slots with them: so that what one broker leads is
// inherited by many.
func (a *assignment) candidate(list, inSync []string) *host {
	rank := func(h *host) int {
		rank := 0
		if slices.ContainsFunc(list, func(m string) bool { return a.inZone(m, h.Zone) }) {
			rank += 2
		}
		if !slices.Contains(inSync, h.Member) {
			rank++
		}
		return rank
	}
	var best *host
	for _, h := range a.hosts {
		if slices.Contains(list, h.Member) {
			continue
		}
		if best == nil || cmp.Or(
			cmp.Compare(rank(h), rank(best)), cmp.Compare(h.copies, best.copies),
			cmp.Compare(h.together(list), best.together(list)), cmp.Compare(h.primaries, best.primaries),
		) < 0 {
			best = h
		}
	}
	return best
}

// together is how many slots a host shares with the members of a list.
func (h *host) together(list []string) int {
	together := 0
	for other, n := range h.shared {
		if slices.Contains(list, other.Member) {
			together += n
		}
	}
	return together
}

// fill adds candidates to a list until it is long enough or nobody is left.
func (a *assignment) fill(list, inSync []string) []string {
	for len(list) < min(a.cfg.Replicas, len(a.hosts)) {
		list = append(list, a.candidate(list, inSync).Member)
	}
	return list
}

// inZone reports whether a member is announced in a zone.
func (a *assignment) inZone(member, zone string) bool {
	b, ok := a.announced[member]
	return ok && b.Zone == zone
}

// spread is in how many zones the members of a list are.
func (a *assignment) spread(list []string) int {
	spread := 0
	for i, m := range list {
		b, ok := a.announced[m]
		if ok && !slices.ContainsFunc(list[:i], func(o string) bool { return a.inZone(o, b.Zone) }) {
			spread++
		}
	}
	return spread
}

// members are all that a row names.
func members(row shard.Row) []string {
	return slices.Concat(inSync(row), row.Replicas)
}

// inSync are the members that may hold everything committed.
func inSync(row shard.Row) []string {
	if row.Primary == "" || slices.Contains(row.InSync, row.Primary) {
		return row.InSync
	}
	return append([]string{row.Primary}, row.InSync...)
}

// name is the part of a member before its id.
func name(member string) string {
	if i := strings.LastIndexByte(member, '@'); i >= 0 {
		return member[:i]
	}
	return member
}
