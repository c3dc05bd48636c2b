package placement

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

func start() time.Time { return time.Unix(1_700_000_000, 0) }

// world is a directory with brokers whose slots' primaries do as the package
// asks of them, and a controller that follows the plans.
type world struct {
	t       failer
	planner *Planner
	cfg     Config
	now     time.Time
	view    View
	brokers map[string]*broker // by name
	ids     int
	version int64
	rows    map[shard.Slot]shard.Row // written, and not in the view yet
	past    map[string]*broker       // ended or replaced, by member
	states  [shard.Slots]state
	fails   func() bool // whether the next write fails; nil: never
	settled bool        // the last plan was

	copies    int // begun by primaries
	handovers int // by primaries
	written   map[Reason]int
	moved     map[shard.Slot]time.Time // for balance
}

// failer is a test or a rapid check.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// broker is a process.
type broker struct {
	Broker
	alive bool
	cut   bool      // from the store
	since time.Time // it is cut or dead
}

// state is what is true of a slot.
type state struct {
	term, base uint64
	committed  int
	have       map[string]int // by member, while its process lives
}

func newWorld(t failer, cfg Config) *world {
	w := &world{
		t: t, cfg: cfg.withDefaults(), planner: New(cfg), now: start(),
		brokers: map[string]*broker{}, past: map[string]*broker{}, written: map[Reason]int{},
		moved: map[shard.Slot]time.Time{}, rows: map[shard.Slot]shard.Row{},
	}
	w.view.Lost = map[string]bool{}
	for n := range w.states {
		w.states[n].have = map[string]int{}
	}
	return w
}

// join starts a broker, in place of one of the name.
func (w *world) join(name, zone string) {
	w.end(name)
	w.ids++
	w.brokers[name] = &broker{
		Broker: Broker{Member: fmt.Sprint(name, "@", w.ids), Addr: name + ":7070", Zone: zone}, alive: true,
	}
	w.look()
}

// end is the end of a process.
func (w *world) end(name string) {
	b := w.brokers[name]
	if b == nil {
		return
	}
	delete(w.brokers, name)
	b.alive, b.since = false, w.now
	w.past[b.Member] = b
	for n := range w.states {
		delete(w.states[n].have, b.Member)
	}
	w.look()
}

// cut cuts a broker off from the store, or connects it again.
func (w *world) cut(name string, cut bool) {
	if b := w.brokers[name]; b != nil && b.cut != cut {
		b.cut, b.since = cut, w.now
		w.look()
		w.plan() // the controller sees every view
	}
}

// look makes the view what is announced.
func (w *world) look() {
	w.view.Brokers = nil
	for _, b := range w.brokers {
		if !b.cut {
			w.view.Brokers = append(w.view.Brokers, b.Broker)
		}
	}
}

func (w *world) broker(member string) *broker {
	if b := w.brokers[name(member)]; b != nil && b.Member == member {
		return b
	}
	return w.past[member]
}

// there returns a broker that lives, announced or not, or nil.
func (w *world) there(member string) *broker {
	if b := w.broker(member); b != nil && b.alive {
		return b
	}
	return nil
}

func (w *world) announced(member string) bool {
	b := w.there(member)
	return b != nil && !b.cut
}

func (w *world) hosts() []*broker {
	var hosts []*broker
	for _, b := range w.brokers {
		if !b.cut && !b.Draining {
			hosts = append(hosts, b)
		}
	}
	return hosts
}

// plan plans once and writes; it returns how much was planned.
func (w *world) plan() int {
	defer w.show()
	p := w.planner.Plan(w.view, w.now)
	seen := map[shard.Slot]bool{}
	for _, c := range p.Changes {
		if seen[c.Slot] {
			w.t.Fatalf("slot %d twice in a plan", c.Slot)
		}
		seen[c.Slot] = true
		w.justify(c)
		if w.fails != nil && w.fails() {
			continue
		}
		w.apply(c)
	}
	for n := range p.Waiting {
		if seen[n] || w.announced(w.view.Table.Row(n).Primary) {
			w.t.Fatalf("slot %d waits", n)
		}
	}
	if w.settled = p.Settled; w.settled {
		w.stays(p)
	}
	return len(p.Changes)
}

// stays checks that time alone does not change a settled plan.
func (w *world) stays(p Plan) {
	later := *w.planner
	later.absent, later.copying = maps.Clone(later.absent), maps.Clone(later.copying)
	if next := later.Plan(w.view, w.now.Add(2*time.Hour)); len(p.Changes)+len(p.Waiting)+len(next.Changes)+len(next.Waiting) > 0 {
		w.t.Fatalf("settled: %+v, and two hours later: %+v", p, next)
	}
}

func (w *world) apply(c Change) {
	w.written[c.Why]++
	st := &w.states[c.Slot]
	if c.Row.Base != st.base {
		clear(st.have)
		st.committed = 0
		st.have[c.Row.Primary] = 0
	}
	w.write(c.Slot, c.Row)
}

func (w *world) write(n shard.Slot, row shard.Row) {
	w.version++
	row.Version = w.version
	w.states[n].term, w.states[n].base = row.Term, row.Base
	w.rows[n] = row
}

// show makes the view what was written.
func (w *world) show() {
	w.view.Table = w.view.Table.With(w.rows)
	clear(w.rows)
}

// justify checks a change against the facts of the package.
func (w *world) justify(c Change) {
	w.t.Helper()
	old := w.view.Table.Row(c.Slot)
	if c.Row.Version != old.Version {
		w.t.Fatalf("%+v replaces version %d", c, old.Version)
	}
	for _, m := range c.Absent {
		if w.announced(m) {
			w.t.Fatalf("%+v: %s is announced", c, m)
		}
	}
	for _, m := range c.Present {
		if !w.announced(m) {
			w.t.Fatalf("%+v: %s is not announced", c, m)
		}
	}
	switch {
	case c.Row.Base != old.Base:
		w.justifyNew(c, old)
	case c.Row.Term != old.Term:
		w.justifyPromotion(c, old)
	default:
		w.justifyWish(c, old)
	}
}

func (w *world) justifyNew(c Change, old shard.Row) {
	w.t.Helper()
	r := c.Row
	if r.Term != old.Term+1 || r.Base <= old.Base || !slices.Equal(r.InSync, []string{r.Primary}) ||
		r.Replicas[0] != r.Primary || !slices.Equal(c.Present, r.InSync) || r.Addr != w.broker(r.Primary).Addr ||
		w.broker(r.Primary).Draining {
		w.t.Fatalf("%+v is no first row", c)
	}
	var why bool
	switch c.Why {
	case Unassigned:
		why = old.Primary == ""
	case Recovered:
		why = w.view.Orders.Recover[c.Slot]
	case Lost:
		why = !slices.ContainsFunc(old.InSync, func(m string) bool {
			return !w.replaced(m) && (w.view.Cautious || !w.view.Lost[m])
		})
	case Unclean:
		why = old.UncleanAfter > 0 && !w.view.Cautious && !w.commits(old)
	}
	for _, m := range old.InSync {
		why = why && !w.announced(m) && slices.Contains(c.Absent, m)
	}
	if !why {
		w.t.Fatalf("%+v is not justified after %+v", c, old)
	}
}

func (w *world) replaced(member string) bool {
	b := w.brokers[name(member)]
	return b != nil && !b.cut && b.Member != member
}

func (w *world) justifyPromotion(c Change, old shard.Row) {
	w.t.Helper()
	r := c.Row
	if c.Why != Failover || r.Term != old.Term+1 || w.announced(old.Primary) || !slices.Contains(c.Absent, old.Primary) ||
		!slices.Contains(old.InSync, r.Primary) || !slices.Contains(r.InSync, r.Primary) || !slices.Equal(c.Present, []string{r.Primary}) {
		w.t.Fatalf("%+v is no promotion after %+v", c, old)
	}
	if w.view.Cautious && !w.replaced(old.Primary) {
		w.t.Fatalf("%+v in caution after %+v", c, old)
	}
	for _, m := range old.InSync {
		if !slices.Contains(r.InSync, m) && (!slices.Contains(c.Absent, m) || w.announced(m) || w.view.Cautious && !w.replaced(m)) {
			w.t.Fatalf("%+v removes %s from %+v", c, m, old)
		}
		if w.announced(m) && !w.broker(m).Draining && w.broker(r.Primary).Draining {
			w.t.Fatalf("%+v promotes one who drains though %s is there", c, m)
		}
	}
	if st := w.states[c.Slot]; st.have[r.Primary] != st.committed {
		w.t.Fatalf("%+v: %s has %d of %d", c, r.Primary, st.have[r.Primary], st.committed)
	}
}

func (w *world) justifyWish(c Change, old shard.Row) {
	w.t.Helper()
	r := c.Row
	r.Replicas = old.Replicas
	if fmt.Sprint(r) != fmt.Sprint(old) || !w.announced(old.Primary) || slices.Equal(c.Row.Replicas, old.Replicas) {
		w.t.Fatalf("%+v changes more or less than who is desired in %+v", c, old)
	}
	if i := slices.IndexFunc(c.Row.Replicas, func(m string) bool { return !slices.Contains(old.Replicas, m) && !w.announced(m) }); i >= 0 {
		w.t.Fatalf("%+v desires %s", c, c.Row.Replicas[i])
	}
	switch c.Why {
	case Balance, Zones, Preferred:
		if w.view.Cautious || w.now.Sub(w.moved[c.Slot]) < w.cfg.Rest || !slices.Equal(sorted(old.InSync), sorted(old.Replicas)) {
			w.t.Fatalf("%+v is moved too soon from %+v", c, old)
		}
		w.moved[c.Slot] = w.now
	}
}

func sorted(list []string) []string { return slices.Sorted(slices.Values(list)) }

// primaries lets each slot's primary do up to a number of steps, if the draw
// says so, and returns how many were done.
func (w *world) primaries(draw func() bool) int {
	defer w.show()
	done := 0
	for n := range shard.Slot(shard.Slots) {
		if draw() && w.primary(n) {
			done++
		}
	}
	return done
}

// primary does the next thing of a slot's primary.
func (w *world) primary(n shard.Slot) bool {
	row, st := w.view.Table.Row(n), &w.states[n]
	p := w.there(row.Primary)
	if p == nil {
		return false
	}
	if w.commits(row) {
		st.committed++
		for _, m := range row.InSync {
			st.have[m] = st.committed
		}
	}
	if p.cut {
		return false
	}
	row.InSync = slices.Clone(row.InSync)
	for i, m := range row.InSync { // silent
		if w.there(m) == nil {
			row.InSync = slices.Delete(row.InSync, i, i+1)
			w.write(n, row)
			return true
		}
	}
	for _, m := range row.Replicas { // has caught up
		if w.announced(m) && !slices.Contains(row.InSync, m) {
			row.InSync = append(row.InSync, m)
			st.have[m] = st.committed
			w.copies++
			w.write(n, row)
			return true
		}
	}
	if to := row.Replicas[0]; to != row.Primary && slices.Contains(row.InSync, to) {
		row.Term++
		row.Primary, row.Addr = to, w.broker(to).Addr
		w.handovers++
		w.write(n, row)
		return true
	}
	if slices.ContainsFunc(row.Replicas, func(m string) bool { return !slices.Contains(row.InSync, m) }) {
		return false
	}
	for i, m := range row.InSync { // not desired
		if !slices.Contains(row.Replicas, m) && m != row.Primary {
			row.InSync = slices.Delete(row.InSync, i, i+1)
			w.write(n, row)
			return true
		}
	}
	return false
}

// commits reports whether a row's primary may be acknowledging publishes.
func (w *world) commits(row shard.Row) bool {
	p := w.there(row.Primary)
	if p == nil || slices.ContainsFunc(row.InSync, func(m string) bool { return w.there(m) == nil }) {
		return false
	}
	return len(row.InSync) > 1 || row.UncleanAfter == 0 || !p.cut || w.now.Sub(p.since) < row.UncleanAfter/2
}

// rest follows plans until nothing happens any more, and returns how long that
// took.
func (w *world) rest() time.Duration {
	w.t.Helper()
	begin, last := w.now, w.now
	for w.now.Sub(last) < massWait+2*time.Second {
		if w.plan()+w.primaries(func() bool { return true }) > 0 {
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
	byZone := map[string]int{}
	for _, b := range hosts {
		byZone[b.Zone]++
	}
	copies, leads := map[string]int{}, map[string]int{}
	for n := range shard.Slot(shard.Slots) {
		row := w.view.Table.Row(n)
		if !w.announced(row.Primary) {
			continue
		}
		zones := map[string]bool{}
		for i, m := range row.Replicas {
			copies[m]++
			if i == 0 {
				leads[m]++
			}
			b := w.broker(m)
			if !w.announced(m) || b.Draining {
				w.t.Fatalf("slot %d should be at %s: %+v", n, m, row)
			}
			zones[b.Zone] = true
		}
		if want := min(w.cfg.Replicas, len(hosts)); len(row.Replicas) != want || len(zones) != min(want, len(byZone)) {
			w.t.Fatalf("slot %d is at %v, in %d zones of %d", n, row.Replicas, len(zones), len(byZone))
		}
		if row.Primary != row.Replicas[0] || !slices.Equal(sorted(row.InSync), sorted(row.Replicas)) {
			w.t.Fatalf("slot %d is not as desired: %+v", n, row)
		}
	}
	sizes := map[int]bool{}
	for _, size := range byZone {
		sizes[size] = true
	}
	w.even("primaries", leads, hosts)
	if len(sizes) == 1 {
		w.even("copies", copies, hosts)
	}
	w.noBetter(copies, hosts)
}

// noBetter wants that no slot can be moved to who has two fewer without losing
// a zone.
func (w *world) noBetter(copies map[string]int, hosts []*broker) {
	w.t.Helper()
	for n := range shard.Slot(shard.Slots) {
		list := w.view.Table.Row(n).Replicas
		for _, to := range hosts {
			if slices.Contains(list, to.Member) {
				continue
			}
			for _, from := range list {
				zones := map[string]bool{to.Zone: true}
				for _, m := range list {
					if m != from {
						zones[w.broker(m).Zone] = true
					}
				}
				before := map[string]bool{}
				for _, m := range list {
					before[w.broker(m).Zone] = true
				}
				if copies[from] > copies[to.Member]+1 && len(zones) >= len(before) {
					w.t.Fatalf("slot %d could move from %s (%d) to %s (%d)", n, from, copies[from], to.Member, copies[to.Member])
				}
			}
		}
	}
}

func (w *world) even(what string, count map[string]int, hosts []*broker) {
	w.t.Helper()
	least, most := shard.Slots, 0
	var words []string
	for _, b := range hosts {
		least, most = min(least, count[b.Member]), max(most, count[b.Member])
		words = append(words, fmt.Sprintf("%s(%s) %d", b.Member, b.Zone, count[b.Member]))
	}
	if most > least+1 {
		w.t.Fatalf("%s: %s", what, strings.Join(words, ", "))
	}
}
