package placement

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// The pace unless Config says otherwise.
const (
	DefaultBurst = 16
	DefaultEvery = time.Second
	DefaultRest  = 10 * time.Second
)

// Config paces the moves for balance. The zero value of a field is its default.
type Config struct {
	// Burst is how many slots are moved at a time, Every the least time between
	// two bursts.
	Burst int
	Every time.Duration
	// Rest is how long a slot that was moved for balance stays where it is.
	Rest time.Duration
}

// View is what the controller knows when it decides.
type View struct {
	// Table are the rows as last read.
	Table *shard.Table
	// Brokers are the announced brokers.
	Brokers []Broker
	// Lost are members that are not announced and whose log is known to be
	// lost. A member replaced by another id under its name need not be listed:
	// that is seen from Brokers.
	Lost map[string]bool
	// Cautious: declare nobody lost yet, because the leader is new or the store
	// was out of reach (CORRECTNESS rule 14).
	Cautious bool
}

// Broker is an announced broker.
type Broker struct {
	// Member is its name@id.
	Member string
	// Addr is its private gRPC address.
	Addr string
	// Draining: give it nothing, take what it has.
	Draining bool
}

// Change is one compare-and-swap of a row.
type Change struct {
	Slot shard.Slot
	// Row is what to write; its Version is the one it replaces.
	Row shard.Row
	// Absent are members that must not be announced for it to apply.
	Absent []string
	// Why it is made.
	Why Reason
}

// Reason says why a slot gets a new primary.
type Reason string

// The reasons.
const (
	Unassigned Reason = "unassigned" // nobody owns it
	Lost       Reason = "lost"       // its owner's log is lost
	Draining   Reason = "draining"   // its owner is leaving
	Balance    Reason = "balance"    // another broker has fewer slots
)

// Planner decides, and remembers what it moved for balance.
type Planner struct {
	cfg   Config
	next  time.Time              // no burst before
	until [shard.Slots]time.Time // the slot rests
}

// New returns a Planner.
func New(cfg Config) *Planner {
	if cfg.Burst <= 0 {
		cfg.Burst = DefaultBurst
	}
	if cfg.Every <= 0 {
		cfg.Every = DefaultEvery
	}
	if cfg.Rest <= 0 {
		cfg.Rest = DefaultRest
	}
	return &Planner{cfg: cfg}
}

// Plan returns the changes to write now, in order, each of another slot. Call
// it with every new view, and at least once a second, but not before the
// outcome of the last plan is in the view.
func (p *Planner) Plan(v View, now time.Time) []Change {
	a := newAssignment(v, now)
	if len(a.hosts) == 0 {
		return nil
	}
	for n := range shard.Slot(shard.Slots) {
		if why, absent := a.needs(v, v.Table.Row(n)); why != "" {
			a.move(n, a.least(), why, absent)
		}
	}
	p.balance(a, now)
	return a.changes
}

// balance moves slots that need no rest from the fullest host to the emptiest.
// None of them was placed a moment ago: that went to the emptiest, which cannot
// have become the fullest by two.
func (p *Planner) balance(a *assignment, now time.Time) {
	if now.Before(p.next) {
		return
	}
	for range p.cfg.Burst {
		from, to := a.most(), a.least()
		if len(from.slots) < len(to.slots)+2 {
			return
		}
		i := slices.IndexFunc(from.slots, func(n shard.Slot) bool {
			return !now.Before(p.until[n])
		})
		if i < 0 {
			return
		}
		n := from.slots[i]
		from.slots = slices.Delete(from.slots, i, i+1)
		a.move(n, to, Balance, nil)
		p.until[n] = now.Add(p.cfg.Rest)
		p.next = now.Add(p.cfg.Every)
	}
}

// assignment is a plan in the making.
type assignment struct {
	now     time.Time
	table   *shard.Table
	hosts   []*host           // announced and not draining, by member
	names   map[string]string // announced: name -> member
	drained map[string]bool   // members that drain
	changes []Change
}

// host is a broker that may own slots, and those it would own.
type host struct {
	member string
	addr   string
	slots  []shard.Slot
}

func newAssignment(v View, now time.Time) *assignment {
	a := &assignment{now: now, table: v.Table, names: map[string]string{}, drained: map[string]bool{}}
	for _, b := range v.Brokers {
		a.names[name(b.Member)] = b.Member
		if b.Draining {
			a.drained[b.Member] = true
			continue
		}
		a.hosts = append(a.hosts, &host{member: b.Member, addr: b.Addr, slots: v.Table.Owned(b.Member)})
	}
	slices.SortFunc(a.hosts, func(x, y *host) int { return cmp.Compare(x.member, y.member) })
	return a
}

// needs says why a row must get a new primary, empty if it need not, and who
// must be absent for that.
func (a *assignment) needs(v View, row shard.Row) (why Reason, absent []string) {
	owner := row.Primary
	if owner == "" {
		return Unassigned, nil
	}
	switch announced := a.names[name(owner)]; {
	case announced == owner && a.drained[owner]:
		return Draining, nil
	case announced == owner:
		return "", nil
	case announced != "", v.Lost[owner] && !v.Cautious:
		return Lost, []string{owner}
	}
	return "", nil
}

func (a *assignment) move(n shard.Slot, to *host, why Reason, absent []string) {
	to.slots = append(to.slots, n)
	old := a.table.Row(n)
	a.changes = append(a.changes, Change{
		Slot: n,
		Row: shard.Row{
			Term:     old.Term + 1,
			Primary:  to.member,
			Addr:     to.addr,
			InSync:   []string{to.member},
			Replicas: []string{to.member},
			Base:     shard.NextBase(old.Base, a.now),
			Version:  old.Version,
		},
		Absent: absent,
		Why:    why,
	})
}

func (a *assignment) least() *host { return slices.MinFunc(a.hosts, (*host).compare) }

func (a *assignment) most() *host { return slices.MaxFunc(a.hosts, (*host).compare) }

func (h *host) compare(other *host) int { return cmp.Compare(len(h.slots), len(other.slots)) }

// name is the part of a member before its id.
func name(member string) string {
	if i := strings.LastIndexByte(member, '@'); i >= 0 {
		return member[:i]
	}
	return member
}
