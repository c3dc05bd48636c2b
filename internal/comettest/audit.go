package comettest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// Audit watches the rows of a cluster, as they are in the store.
type Audit struct {
	mu   sync.Mutex
	rows [shard.Slots]shard.Row
	anew map[shard.Slot][]time.Time // when a slot's log began anew
	dead map[string]bool            // members that were ended
	errs []error
	// hasty are breaches by members that may have died in this very moment.
	hasty map[string][]breach
}

// breach is what was found at a time.
type breach struct {
	at  time.Time
	err error
}

// Audit begins to watch.
func (c *Cluster) Audit() *Audit {
	a := &Audit{anew: map[shard.Slot][]time.Time{}, dead: map[string]bool{}, hasty: map[string][]breach{}}
	c.audit = a
	c.Store.Trace(a.see)
	return a
}

// see compares a row with the one before.
func (a *Audit) see(n shard.Slot, row shard.Row) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.rows[n]
	if row.Version == old.Version {
		return
	}
	a.rows[n] = row
	found := func(format string, args ...any) error {
		return fmt.Errorf("%s: slot %d: %s: %+v, then %+v", time.Now().Format("15:04:05.000"), n, fmt.Sprintf(format, args...), old, row)
	}
	fail := func(what string) { a.errs = append(a.errs, found("%s", what)) }
	switch {
	case row.Version < old.Version || row.Term < old.Term || row.Base < old.Base:
		fail("it went back")
	case !slices.Contains(row.InSync, row.Primary):
		fail("the primary is not in sync")
	case old.Version == 0:
	case row.Base > old.Base:
		a.anew[n] = append(a.anew[n], time.Now())
		for _, m := range old.InSync {
			if !a.dead[m] {
				a.hasty[m] = append(a.hasty[m], breach{time.Now(), found("it began anew, though %s has what was acknowledged", m)})
			}
		}
	case row.Primary != old.Primary && !slices.Contains(old.InSync, row.Primary):
		fail("the new primary was not in sync")
	case row.Term == old.Term && row.Primary != old.Primary:
		fail("two primaries of one term")
	}
}

// GivenUp notes that a node is silent for so long that the logs of which it has
// the only copy may be given up.
func (a *Audit) GivenUp(n *Node) { a.died(n.Process.Node().Member()) }

// left notes that a member has left, and for how long others could have taken
// before what only it has.
func (a *Audit) left(member string, helped time.Duration) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buryLocked(member)
	lost := 0
	for _, row := range a.rows {
		if len(row.InSync) == 1 && row.InSync[0] == member {
			lost++
		}
	}
	if lost > 0 && helped > rescue {
		a.errs = append(a.errs, fmt.Errorf("%s: %s left with the only copies of %d slots, though others were there for %v", time.Now().Format("15:04:05.000"), member, lost, helped))
	}
}

// died notes that the present life of a node has ended.
func (a *Audit) died(member string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buryLocked(member)
}

// buryLocked notes that a member is no more. The controller may have known it
// before, in the same moment.
func (a *Audit) buryLocked(member string) {
	a.dead[member] = true
	a.hasty[member] = slices.DeleteFunc(a.hasty[member], func(b breach) bool { return b.at.Equal(time.Now()) })
}

// Anew returns the slots whose logs began anew.
func (a *Audit) Anew() map[shard.Slot][]time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[shard.Slot][]time.Time{}
	for n, times := range a.anew {
		all[n] = slices.Clone(times)
	}
	return all
}

// Row returns the row of a channel's slot as it is in the store.
func (a *Audit) Row(channel string) shard.Row {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rows[shard.Of(channel)]
}

// Err returns the breaches found: rows that went back, primaries that were not
// in sync, and logs that were given up though a process had them, or took them
// with it when it left though another could have taken them.
func (a *Audit) Err() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := slices.Clone(a.errs)
	for _, breaches := range a.hasty {
		for _, b := range breaches {
			errs = append(errs, b.err)
		}
	}
	return errs
}
