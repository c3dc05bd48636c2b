package placement

import (
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// View is what the controller knows when it decides.
type View struct {
	// Table are the rows as last read.
	Table *shard.Table
	// Brokers are the announced brokers.
	Brokers []Broker
	// Lost are members whose log is known to be lost and that are not
	// announced. A member replaced by another id under its name need not be
	// listed: that is seen from Brokers.
	Lost map[string]bool
	// Cautious: declare nobody lost yet, because the leader is new or the
	// store was out of reach (CORRECTNESS rule 14).
	Cautious bool
}

// Broker is an announced broker.
type Broker struct {
	// Member is its name@id.
	Member string
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

// Config paces the planner. The zero value of a field is its default.
type Config struct {
	// Burst is how many slots are moved for balance at a time.
	Burst int
	// Every is the least time between two such bursts.
	Every time.Duration
	// Rest is how long a slot stays where it was put before it is moved for
	// balance.
	Rest time.Duration
}
