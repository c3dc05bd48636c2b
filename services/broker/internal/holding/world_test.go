package holding

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

func start() time.Time { return time.Unix(1_700_000_000, 0) }

// failer is a test or a rapid check.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is a directory with presence processes, and a controller that follows
// the plans.
type world struct {
	t       failer
	planner *Planner
	now     time.Time
	view    View
	there   map[string]*process // by name
	ids     int
	version int64
	came    [shard.PresenceShards]time.Time // when a second came that was not a holder before
	fails   func() bool                     // whether the next write fails; nil: never
	settled bool                            // the last plan was
	written map[Reason]int
}

// process is a presence process; one that is cut off from the store is not
// announced.
type process struct {
	Process
	cut bool
}

func newWorld(t failer) *world {
	return &world{t: t, planner: New(), now: start(), there: map[string]*process{}, written: map[Reason]int{}}
}

// join starts a process, in place of one of the name.
func (w *world) join(name, zone string) {
	w.ids++
	w.there[name] = &process{Process: Process{Member: fmt.Sprint(name, "@", w.ids), Zone: zone}}
	w.look()
}

func (w *world) end(name string) {
	delete(w.there, name)
	w.look()
}

// look makes the view what is announced.
func (w *world) look() {
	w.view.Processes = nil
	for _, p := range w.there {
		if !p.cut {
			w.view.Processes = append(w.view.Processes, p.Process)
		}
	}
}

func (w *world) announced(member string) bool {
	p := w.there[name(member)]
	return p != nil && !p.cut && p.Member == member
}

// replaced reports whether another of a member's name is announced.
func (w *world) replaced(member string) bool {
	p := w.there[name(member)]
	return p != nil && !p.cut && p.Member != member
}

// hosts are those that take shards.
func (w *world) hosts() []Process {
	hosts := slices.DeleteFunc(slices.Clone(w.view.Processes), func(p Process) bool { return p.Draining })
	if len(hosts) == 0 {
		return w.view.Processes
	}
	return hosts
}

func (w *world) isHost(member string) bool {
	return slices.ContainsFunc(w.hosts(), func(p Process) bool { return p.Member == member })
}

// plan plans once and writes; it returns how much was planned.
func (w *world) plan() int {
	w.t.Helper()
	p := w.planner.Plan(w.view, w.now)
	rows, moves := map[shard.PresenceShard]shard.Holders{}, 0
	failed := false
	for _, c := range p.Changes {
		if _, twice := rows[c.Shard]; twice {
			w.t.Fatalf("shard %d twice in a plan", c.Shard)
		}
		rows[c.Shard] = w.view.Table.Holders(c.Shard)
		w.justify(c)
		switch c.Why {
		case Zones, Balance, Preferred:
			moves++
		}
		if w.fails != nil && w.fails() {
			failed = true
			continue
		}
		w.written[c.Why]++
		w.version++
		c.Holders.Version = w.version
		if old := rows[c.Shard]; !old.Has(c.Holders.Second) {
			w.came[c.Shard] = w.now
		}
		rows[c.Shard] = c.Holders
	}
	if moves > Burst || moves > 0 && (moves != len(p.Changes) || w.view.Cautious) {
		w.t.Fatalf("%d moves for balance in a plan of %d changes, cautious: %v", moves, len(p.Changes), w.view.Cautious)
	}
	w.view.Table = w.view.Table.With(rows)
	if !failed && !w.view.Cautious && len(w.view.Processes) > 0 {
		w.led()
	}
	if w.settled = p.Settled; w.settled {
		later := *w.planner
		if next := later.Plan(w.view, w.now.Add(2*time.Hour)); len(p.Changes)+len(next.Changes) > 0 {
			w.t.Fatalf("settled: %+v, and two hours later: %+v", p, next)
		}
	}
	return len(p.Changes)
}

// led wants every shard to have a first who is there.
func (w *world) led() {
	w.t.Helper()
	for n := range shard.PresenceShard(shard.PresenceShards) {
		if h := w.view.Table.Holders(n); !w.announced(h.First) {
			w.t.Fatalf("shard %d has no first though there are %v: %+v", n, w.view.Processes, h)
		}
	}
}

// justify checks that a change is one that the package may make.
func (w *world) justify(c Change) {
	w.t.Helper()
	old, next := w.view.Table.Holders(c.Shard), c.Holders
	bad := func(what string) {
		w.t.Helper()
		w.t.Fatalf("%s: %+v after %+v, there are %v, cautious: %v", what, c, old, w.view.Processes, w.view.Cautious)
	}
	switch {
	case next.Version != old.Version:
		bad("replaces another version")
	case next.First == "", next.First == next.Second:
		bad("is no pair")
	case (next.First != old.First) != (next.Epoch > old.Epoch), old.First != "" && next.Epoch > old.Epoch+1:
		bad("epoch does not go with first")
	case slices.ContainsFunc(c.Absent, w.announced), slices.ContainsFunc(c.Present, func(m string) bool { return !w.announced(m) }):
		bad("cannot apply")
	}
	stayed := false
	for _, m := range []string{old.First, old.Second} {
		stayed = stayed || w.announced(m) && next.Has(m)
		if m != "" && !w.announced(m) && !next.Has(m) && (!slices.Contains(c.Absent, m) || w.view.Cautious && !w.replaced(m)) {
			bad("removes " + m)
		}
	}
	if !stayed && (w.announced(old.First) || w.announced(old.Second)) {
		bad("takes all who know")
	}
	for _, m := range []string{next.First, next.Second} {
		if m != "" && !old.Has(m) && (!w.isHost(m) || !slices.Contains(c.Present, m)) {
			bad("chooses " + m)
		}
	}
	w.justifyFirst(c, old, bad)
}

func (w *world) justifyFirst(c Change, old shard.Holders, bad func(string)) {
	w.t.Helper()
	next := c.Holders
	if next.First == old.First {
		return
	}
	rested := w.now.Sub(w.came[c.Shard])
	switch {
	case !slices.Contains(c.Present, next.First):
		bad("first may be gone")
	case !w.announced(old.First):
		if w.announced(old.Second) && next.First != old.Second {
			bad("passes over second")
		}
	case !w.isHost(old.First):
		if next.First != old.Second || rested < Settle {
			bad("first who drains is not followed by second")
		}
	case c.Why != Preferred, next.First != old.Second, next.Second != old.First, rested < Rest:
		bad("first has to stay")
	}
}

// rest follows plans until nothing happens any more, and returns how long that
// took.
func (w *world) rest() time.Duration {
	w.t.Helper()
	begin, last := w.now, w.now
	for w.now.Sub(last) < Rest+2*time.Second {
		if w.plan() > 0 {
			last = w.now
			w.now = w.now.Add(100 * time.Millisecond)
		} else {
			w.now = w.now.Add(time.Second)
		}
		if w.now.Sub(begin) > time.Hour {
			w.t.Fatalf("never comes to rest")
		}
	}
	return last.Sub(begin)
}

// check wants the table to be as the package promises at rest.
func (w *world) check() {
	w.t.Helper()
	hosts := w.hosts()
	if len(hosts) == 0 {
		return
	}
	zone, zones := map[string]string{}, map[string]int{}
	for _, p := range w.view.Processes {
		zone[p.Member] = p.Zone
	}
	for _, p := range hosts {
		zones[p.Zone]++
	}
	firsts, holds := w.loads()
	for n := range shard.PresenceShard(shard.PresenceShards) {
		h := w.view.Table.Holders(n)
		switch {
		case !w.isHost(h.First):
			w.t.Fatalf("shard %d is not at a host: %+v", n, h)
		case len(hosts) == 1:
			if h.Second != "" && (!w.announced(h.Second) || w.isHost(h.Second)) {
				w.t.Fatalf("shard %d has a second: %+v", n, h)
			}
		case !w.isHost(h.Second), len(zones) > 1 && zone[h.First] == zone[h.Second]:
			w.t.Fatalf("shard %d is not in two zones of %v: %+v", n, zones, h)
		}
	}
	sizes := slices.Collect(maps.Values(zones))
	if len(zones) == 1 || slices.Min(sizes) == slices.Max(sizes) {
		w.even("firsts", firsts, hosts)
		w.even("holdings", holds, hosts)
	}
	w.noBetter(firsts, holds, zone, len(zones))
}

// loads are how many shards are held by whom.
func (w *world) loads() (firsts, holds map[string]int) {
	firsts, holds = map[string]int{}, map[string]int{}
	for n := range shard.PresenceShard(shard.PresenceShards) {
		h := w.view.Table.Holders(n)
		firsts[h.First]++
		holds[h.First]++
		holds[h.Second]++
	}
	return firsts, holds
}

// noBetter wants that no single change of a row makes loads more even without
// losing a zone.
func (w *world) noBetter(firsts, holds map[string]int, zone map[string]string, zones int) {
	w.t.Helper()
	hosts := w.hosts()
	if len(hosts) < 2 {
		return
	}
	for n := range shard.PresenceShard(shard.PresenceShards) {
		h := w.view.Table.Holders(n)
		if firsts[h.First] > firsts[h.Second]+1 {
			w.t.Fatalf("holders of shard %d could change places: %+v, firsts %v", n, h, firsts)
		}
		for _, p := range hosts {
			if p.Member != h.First && holds[h.Second] > holds[p.Member]+1 && (zones == 1 || p.Zone != zone[h.First]) {
				w.t.Fatalf("shard %d could go to %s: %+v, holdings %v", n, p.Member, h, holds)
			}
		}
	}
}

func (w *world) even(what string, load map[string]int, hosts []Process) {
	w.t.Helper()
	least, most := 2*shard.PresenceShards, 0
	for _, p := range hosts {
		least, most = min(least, load[p.Member]), max(most, load[p.Member])
	}
	if most > least+1 {
		w.t.Fatalf("%s: %v of %v", what, load, hosts)
	}
}
