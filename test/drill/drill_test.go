package drill

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/membership"
)

const (
	// unplanned is how long publishes may wait after a failure, at worst.
	unplanned = membership.DefaultLease + 2*time.Second
	// planned is how long they may wait in what an operator does.
	planned = 250 * time.Millisecond
	// slack is how much longer all may take where others use the machine, too.
	slack = 3
)

// run is a site under load, and what its drills have shown.
type run struct {
	*site
	*load
	rows   []row
	noise  time.Duration // how long publishes wait though nothing is done
	broken bool          // something is not as it was: further drills would show nothing
}

// row is what one drill has shown.
type row struct {
	name string
	*figures
}

// TestDrills breaks one thing after the other. DRILLS=full kills 20 brokers and
// holds the publishers' waiting to the limits; else each drill is done once, and
// they may wait slack times as long, and as long as they do without a fault.
func TestDrills(t *testing.T) {
	if err := exec.Command("docker", "info").Run(); err != nil {
		t.Skip("no Docker engine answers: make test-deps starts one, as root on Debian")
	}
	if err := exec.Command("node", "-e", "require.resolve('cometd',{paths:['../clients']})").Run(); err != nil {
		t.Skip("the reference clients are not installed: make test-deps installs them")
	}
	ctx := t.Context()
	if end, limited := t.Deadline(); limited { // leave the time to clean up
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-30*time.Second))
		defer cancel()
	}
	s := open(ctx, t)
	opened := time.Now()
	if err := within(ctx, 2*time.Minute, s.spread); err != nil {
		t.Fatal(err)
	}
	sleep(ctx, time.Until(opened.Add(young)))
	r := &run{site: s}
	t.Cleanup(func() { t.Logf("\n%s", r.table()) }) // when nothing more comes
	r.load = begin(ctx, t, s)
	for _, d := range r.drills() {
		if only := os.Getenv("DRILL"); strings.Contains(d.name, only) || d.limit == 0 {
			r.drill(ctx, t, d)
		}
	}
	if full() {
		r.judgeKills(t)
	}
}

// drill is one thing to do, and how long publishes may wait for it.
type drill struct {
	name  string
	limit time.Duration // 0: none
	do    func(ctx context.Context) error
}

func (r *run) drills() []drill {
	all := []drill{{"nothing", 0, func(ctx context.Context) error {
		sleep(ctx, 3*time.Second)
		return nil
	}}}
	kills, freezes := 1, []time.Duration{time.Second, 10 * time.Second}
	if full() {
		kills, freezes = 20, append(freezes, 5*time.Second)
	}
	for i := range kills {
		// A broker that is back sooner ends its lease itself.
		all = append(all, drill{fmt.Sprintf("kill %d", i+1), unplanned, r.restarts(r.kill, unplanned)})
	}
	all = append(all, drill{"kill, back at once", unplanned, r.restarts(r.kill, 0)})
	for _, d := range freezes {
		all = append(all, drill{"freeze " + d.String(), unplanned, r.freezes(d)})
	}
	if full() { // what follows below is worse
		all = append(all, drill{"etcd leader cut off", unplanned, r.cuts(r.etcdLeader, r.outage, r.store, r.peers)})
	}
	return append(all,
		drill{"broker cut off", unplanned, r.cuts(r.busiest, r.outage, r.lan, r.store)},
		drill{"broker cut off from etcd", unplanned, r.cuts(r.busiest, r.outage, r.store)},
		drill{"etcd leader cut off from etcd", unplanned, r.cuts(r.etcdLeader, r.movesMeanwhile, r.peers)},
		drill{"comet slots move", planned, r.moves},
		drill{"comet slots drain", planned, r.empties},
		drill{"brokers restarted in turn", planned, r.rolls(r.brokers)},
		drill{"edges restarted in turn", planned, r.rolls(r.edges)},
		drill{"etcd restarted in turn", planned, r.rolls(r.etcd)},
	)
}

// young is how long nobody is declared dead after brokers have started (package
// controller, fact 3).
const young = 3 * membership.DefaultLease

func full() bool { return os.Getenv("DRILLS") == "full" }

// drill does something to the site, waits until all is well again, and checks
// what was noticed of it.
func (r *run) drill(ctx context.Context, t *testing.T, d drill) {
	t.Helper()
	if r.broken {
		return
	}
	r.goHome()
	well := r.whole
	if full() && d.limit != unplanned { // what a young cluster does by itself would be measured, too
		well = r.balanced
	}
	if err := within(ctx, 2*time.Minute, well); err != nil {
		t.Fatalf("before %s: %v", d.name, err)
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf(d.name+": "+format, args...)
		r.broken = true
	}
	r.start()
	began := time.Now()
	if err := d.do(ctx); err != nil {
		fail("%v", err)
	}
	done := time.Since(began)
	if err := within(ctx, 2*time.Minute, r.whole); err != nil {
		fail("%v", err)
	}
	whole := time.Since(began)
	r.finish()
	if err := within(ctx, 30*time.Second, r.behind); err != nil {
		fail("%v", err)
	}
	f, faults := r.take()
	for _, fault := range faults[:min(len(faults), 20)] {
		fail("%s", fault)
	}
	if len(faults) > 20 {
		fail("%d faults in all", len(faults))
	}
	r.rows = append(r.rows, row{d.name, f})
	t.Logf("%s: done after %v, whole after %v; %d publishes, the slowest %v (%s); %d of %d channels waited longer than 250ms; retries: %s",
		d.name, round(done), round(whole), len(f.acks), round(f.recovery()), f.slowest, f.slow(planned), len(r.channels), f.why())
	if d.limit == 0 {
		r.noise = f.recovery()
		return
	}
	allowed := d.limit
	if !full() {
		allowed = slack*allowed + r.noise
	}
	if waited := f.recovery(); waited > allowed {
		t.Errorf("%s: a publish waited %v, want at most %v", d.name, waited, allowed)
	}
}

// restarts ends the broker that leads the most slots, and starts it again.
func (r *run) restarts(end func(context.Context, *node) error, away time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		b, err := r.busiest()
		if err != nil {
			return err
		}
		if err := end(ctx, b); err != nil {
			return err
		}
		sleep(ctx, away)
		return r.revive(ctx, b)
	}
}

// freezes stops the broker that leads the most slots for a while.
func (r *run) freezes(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		b, err := r.busiest()
		if err != nil {
			return err
		}
		if err := r.freeze(ctx, b); err != nil {
			return err
		}
		sleep(ctx, d)
		return r.thaw(ctx, b)
	}
}

// cuts takes a node off networks for as long as something else takes.
func (r *run) cuts(
	who func() (*node, error), meanwhile func(context.Context) error, networks ...string,
) func(context.Context) error {
	return func(ctx context.Context) error {
		n, err := who()
		if err != nil {
			return err
		}
		for _, network := range networks {
			if err := r.leave(ctx, n, network); err != nil {
				return err
			}
		}
		if err := meanwhile(ctx); err != nil {
			return err
		}
		for _, network := range networks {
			if err := r.join(ctx, n, network); err != nil {
				return err
			}
		}
		return nil
	}
}

// outage is longer than anybody waits for a node.
func (r *run) outage(ctx context.Context) error {
	sleep(ctx, unplanned+2*time.Second)
	return nil
}

// movesMeanwhile moves slots by name when it is noticed that a node is gone.
func (r *run) movesMeanwhile(ctx context.Context) error {
	sleep(ctx, membership.DefaultLease)
	return r.moves(ctx)
}

// rolls restarts nodes one after the other, as a rolling update does: the next
// when the one before is ready and all slots have their copies.
func (r *run) rolls(nodes []*node) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, n := range nodes {
			if err := r.stop(ctx, n); err != nil {
				return err
			}
			if err := r.revive(ctx, n); err != nil {
				return err
			}
			if err := within(ctx, 2*time.Minute, r.whole); err != nil {
				return err
			}
		}
		return nil
	}
}

// judgeKills checks how long kills were noticed.
func (r *run) judgeKills(t *testing.T) {
	var all []time.Duration
	for _, row := range r.rows {
		if strings.HasPrefix(row.name, "kill ") {
			all = append(all, row.recovery())
		}
	}
	if len(all) == 0 {
		return // other drills were asked for
	}
	slices.Sort(all)
	median := all[len(all)/2]
	t.Logf("%d kills: recovery %v in the middle, %v at worst", len(all), round(median), round(all[len(all)-1]))
	if most := membership.DefaultLease + time.Second; median > most {
		t.Errorf("recovery is %v in the middle, want at most %v", median, most)
	}
}

// table is what all drills have shown, as markdown.
func (r *run) table() string {
	var b strings.Builder
	b.WriteString("| drill | publishes | acknowledged p50 / p99 / worst | delivered p50 / p99 / worst |\n|---|---|---|---|\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", row.name, len(row.acks), spreadOf(row.acks), spreadOf(row.arrivals))
	}
	return b.String()
}

func spreadOf(times []time.Duration) string {
	sorted := slices.Sorted(slices.Values(times)) // some came after their drill
	return fmt.Sprintf("%v / %v / %v", round(at(sorted, 0.5)), round(at(sorted, 0.99)), round(at(sorted, 1)))
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
