package placement

import (
	"cmp"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// What Config means by zero.
const (
	DefaultReplicas = 2
	DefaultCopies   = 8
	DefaultBurst    = 16
	DefaultEvery    = time.Second
	DefaultRest     = 10 * time.Second
)

const (
	// massWait is how long evidence waits after more than half of the brokers
	// vanished, where no time is configured.
	massWait = 30 * time.Second
	// copyPatience is how long a copy under way holds up others, drainPatience
	// how long one of a slot whose primary drains does: it may have been given to
	// somebody out of that one's reach.
	copyPatience  = time.Minute
	drainPatience = 3 * time.Second
	// orderRest is how long a slot stays where an operator put it.
	orderRest = time.Hour
)

// Config says what is wanted. The zero value of a field is its default, where
// there is one.
type Config struct {
	// Replicas is how many members should hold a slot.
	Replicas int
	// UncleanAfter is after how much silence a slot may start anew whose only
	// copy that is not known to be lost is silent; 0: never. Not with Replicas 1:
	// it would stop every slot while the store is away.
	UncleanAfter time.Duration
	// RepairAfter is how long a member may be absent before another takes its
	// place; 0: at once. Members with disks come back with what they had.
	RepairAfter time.Duration
	// Copies is how many slots are copied at a time.
	Copies int
	// Burst is how many slots are moved for balance at a time, Every the least
	// time between two bursts.
	Burst int
	Every time.Duration
	// Rest is how long a slot that was moved for balance stays where it is.
	Rest time.Duration
}

func (c Config) withDefaults() Config {
	c.Replicas = cmp.Or(max(c.Replicas, 0), DefaultReplicas)
	c.Copies = cmp.Or(max(c.Copies, 0), DefaultCopies)
	c.Burst = cmp.Or(max(c.Burst, 0), DefaultBurst)
	c.Every = cmp.Or(max(c.Every, 0), DefaultEvery)
	c.Rest = cmp.Or(max(c.Rest, 0), DefaultRest)
	return c
}

// View is what the controller knows when it decides, with the store in reach.
type View struct {
	// Table are the rows as last read.
	Table *shard.Table
	// Brokers are the announced brokers.
	Brokers []Broker
	// Lost are members that are not announced and whose log is known to be
	// lost. A member replaced by another id under its name need not be listed:
	// that is seen from Brokers.
	Lost map[string]bool
	// Cautious: whoever is absent may only be late to announce itself, because
	// the leader is new or the store was out of reach (CORRECTNESS rule 14).
	Cautious bool
	// Orders are what operators want.
	Orders Orders
}

// Broker is an announced broker.
type Broker struct {
	// Member is its name@id.
	Member string
	// Addr is its private gRPC address.
	Addr string
	// Zone is its failure domain, or empty.
	Zone string
	// Draining: give it nothing, take what it has.
	Draining bool
}

// Plan is what to do now.
type Plan struct {
	// Changes are to be written in order, each of another slot.
	Changes []Change
	// Waiting are the slots that nobody leads and that may not start anew yet.
	Waiting map[shard.Slot]Wait
	// Settled: there is nothing to do, and time alone changes nothing about that.
	Settled bool
}

// Change is one compare-and-swap of a row.
type Change struct {
	Slot shard.Slot
	// Row is what to write; its Version is the one it replaces.
	Row shard.Row
	// Absent are members that must not be announced for it to apply, Present
	// those that must be.
	Absent, Present []string
	// Why it is made.
	Why Reason
}

// Reason says why a row is written.
type Reason string

// The reasons.
const (
	Unassigned Reason = "unassigned" // it is the slot's first row
	Failover   Reason = "failover"   // the primary is gone, and somebody in sync is promoted
	Lost       Reason = "lost"       // a new incarnation: everybody in sync is known to have lost the log
	Unclean    Reason = "unclean"    // a new incarnation: the only one who may have the log was silent for too long
	Recovered  Reason = "recovered"  // a new incarnation by an operator's word
	Repair     Reason = "repair"     // too few hold the slot, or too many, or one who is gone
	Draining   Reason = "draining"   // one who holds it is leaving
	Ordered    Reason = "ordered"    // an operator moves it
	Zones      Reason = "zones"      // it can be in more zones
	Balance    Reason = "balance"    // another broker holds fewer slots
	Preferred  Reason = "preferred"  // another broker that holds it leads fewer slots
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{
		Unassigned, Failover, Lost, Unclean, Recovered, Repair, Draining, Ordered, Zones, Balance, Preferred,
	}
}

// Wait says what a slot waits for that nobody leads.
type Wait string

// What slots wait for.
const (
	ForReturn   Wait = "return"   // a member in sync, evidence that its log is lost, or an operator
	ForCaution  Wait = "caution"  // the end of the time in which nobody counts as absent
	ForMajority Wait = "majority" // more than half of the brokers vanished at once: they may come back
	ForSilence  Wait = "silence"  // the end of the row's UncleanAfter
	ForBrokers  Wait = "brokers"  // a broker that does not drain
)

// Planner decides, and remembers what views do not show.
type Planner struct {
	cfg     Config
	absent  map[string]time.Time   // members that rows name: not announced since
	copying map[shard.Slot]begun   // copies begun here and not finished
	next    time.Time              // no burst before
	until   [shard.Slots]time.Time // the slot rests
}

// begun is when something was begun by a change, of which version of the row.
type begun struct {
	at      time.Time
	version int64
}

// New returns a Planner.
func New(cfg Config) *Planner {
	return &Planner{
		cfg:    cfg.withDefaults(),
		absent: map[string]time.Time{}, copying: map[shard.Slot]begun{},
	}
}

// See notes who is absent in a view that no plan is made from. A member that
// comes and goes unseen counts as absent all the time.
func (p *Planner) See(v View, now time.Time) { newAssignment(p, v, now) }

// Plan returns what to do now. Call it with every new view, and at least once a
// second until the plan is settled, but not before the outcome of the last plan is in the view, and never
// with a view from before an outage of the store has ended.
func (p *Planner) Plan(v View, now time.Time) Plan {
	a := newAssignment(p, v, now)
	for i := range a.places {
		s := &a.places[i]
		switch {
		case s.row.Primary == "":
			a.first(s)
		case !a.announces(s.row.Primary):
			a.withoutPrimary(s)
		}
	}
	for i := range a.places {
		if s := &a.places[i]; !s.changed && a.announces(s.row.Primary) {
			a.adjust(s)
		}
	}
	balanced := a.balance()
	return Plan{Changes: a.changes, Waiting: a.waiting, Settled: balanced && a.settled()}
}
