package holding

import (
	"time"

	"github.com/comet-push/comet/internal/shard"
)

const (
	// Settle is how long it takes until edges have told a new holder of their
	// sessions.
	Settle = 2 * time.Second
	// Rest is how long records are of use of which nobody tells a new holder.
	Rest = time.Minute
	// Burst is how many rows are changed for balance at a time.
	Burst = 32
	// Every is the least time between two bursts.
	Every = time.Second
)

// View is what the controller knows when it decides, with the store in reach.
type View struct {
	// Table are the rows as last read.
	Table *shard.HolderTable
	// Processes are the announced presence processes.
	Processes []Process
	// Cautious: whoever is absent may only be late to announce itself, because
	// the leader is new or the store was out of reach (CORRECTNESS rule 14).
	Cautious bool
}

// Process is an announced presence process.
type Process struct {
	// Member is its name@id.
	Member string
	// Zone is its failure domain, or empty.
	Zone string
	// Draining: give it nothing, take what it has.
	Draining bool
}

// Plan is what to do now.
type Plan struct {
	// Changes are each of another shard, in any order.
	Changes []Change
	// Settled: there is nothing to do, and time alone changes nothing about that.
	Settled bool
}

// Change is one compare-and-swap of a row.
type Change struct {
	Shard shard.PresenceShard
	// Holders are what to write; their Version is the one they replace.
	Holders shard.Holders
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
	Unassigned Reason = "unassigned" // it is the shard's first row
	Gone       Reason = "gone"       // a holder is gone
	Draining   Reason = "draining"   // a holder is leaving
	Repair     Reason = "repair"     // there was no second
	Zones      Reason = "zones"      // both are in one zone
	Balance    Reason = "balance"    // another process holds fewer shards
	Preferred  Reason = "preferred"  // the second is the first of fewer shards
)

// Planner decides, and remembers what views do not show.
type Planner struct {
	last *shard.HolderTable              // of the plan before; nil: none
	came [shard.PresenceShards]time.Time // when the second was first seen
	next time.Time                       // no burst before
}

// New returns a Planner.
func New() *Planner { return &Planner{} }

// Plan returns what to do now. Call it with every new view, and at least once a
// second until the plan is settled, but not before the outcome of the last plan
// is in the view.
func (p *Planner) Plan(v View, now time.Time) Plan {
	p.see(v.Table, now)
	a := newAssignment(p, v, now)
	for i := range a.places {
		a.keep(&a.places[i])
	}
	for i := range a.places {
		a.fill(&a.places[i])
	}
	balanced := len(a.changes) == 0 && a.balance()
	return Plan{Changes: a.changes, Settled: balanced && len(a.changes) == 0 && !v.Cautious && !a.unripe()}
}

// see notes whose seconds are new. A first planner takes all for new.
func (p *Planner) see(table *shard.HolderTable, now time.Time) {
	for n := range shard.PresenceShard(shard.PresenceShards) {
		if second := table.Holders(n).Second; second != "" && !p.last.Holders(n).Has(second) {
			p.came[n] = now
		}
	}
	p.last = table
}
