package controller

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/holding"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

// reign is the state of one time of leading. But for waiting, which c.mu
// guards, only lead's goroutine touches it.
type reign struct {
	*Controller
	leadership membership.Leadership
	planner    *placement.Planner
	holding    *holding.Planner
	helpers    *sync.WaitGroup
	findings   chan finding // has room for what every probe under way will say
	orders     chan *order
	ended      chan struct{}

	view     membership.View // the zero view: none yet
	cautious time.Time       // nobody is absent before
	acted    time.Time       // the last time
	verdicts map[string]Verdict
	probing  map[string]bool
	standing []*order
	slots    pen[shard.Slot]
	shards   pen[shard.PresenceShard]
	waiting  map[shard.Slot]placement.Wait
}

// finding is what a probe found.
type finding struct {
	member  string
	verdict Verdict
}

func newReign(c *Controller, l membership.Leadership, helpers *sync.WaitGroup, now time.Time) *reign {
	return &reign{
		Controller: c, leadership: l, planner: placement.New(c.cfg.Placement), holding: holding.New(), helpers: helpers,
		findings: make(chan finding, maxProbes), slots: newPen[shard.Slot](), shards: newPen[shard.PresenceShard](),
		orders: make(chan *order), ended: make(chan struct{}),
		cautious: c.members.steady(now).Add(quarantine * c.cfg.Lease), acted: now,
		verdicts: map[string]Verdict{}, probing: map[string]bool{},
	}
}

// end refuses the orders that are left.
func (r *reign) end() { close(r.ended) }

// see takes a view. While the store was out of reach leases may have run out
// that nobody could renew.
func (r *reign) see(v membership.View, now time.Time) {
	first := r.view.Table == nil
	if !v.Connected || !r.view.Connected && !first {
		r.doubt(now)
	}
	same := v.Presence == r.view.Presence && slices.Equal(processes(v), processes(r.view)) // most news are of slots
	r.view, r.slots.settled, r.shards.settled = v, false, r.shards.settled && same
	for member := range r.verdicts {
		if _, announced := v.Node(member); announced {
			delete(r.verdicts, member)
		}
	}
	r.slots.see(r.rowVersion)
	r.shards.see(r.holdersVersion)
}

// doubt begins the time anew in which everybody can announce itself.
func (r *reign) doubt(now time.Time) {
	r.cautious = now.Add(quarantine * r.cfg.Lease)
	r.slots.settled, r.shards.settled = false, false
	clear(r.verdicts)
}

// act does what follows from the view, as far as it can be done now.
func (r *reign) act(ctx context.Context, now time.Time) {
	if now.Sub(r.acted) > max(r.cfg.Lease, 2*planEvery) { // who came and went meanwhile was not seen
		r.doubt(now)
	}
	r.acted = now
	if !r.view.Connected {
		return
	}
	if !r.slots.settled {
		r.actSlots(ctx, now)
	}
	if !r.shards.settled {
		r.actPresence(ctx, now)
	}
}

// actSlots has the rows of slots written as they should be.
func (r *reign) actSlots(ctx context.Context, now time.Time) {
	v := placement.View{Table: r.view.Table, Lost: r.lost(), Cautious: now.Before(r.cautious)}
	v.Brokers = brokers(r.view)
	if !r.slots.free(now) {
		r.planner.See(v, now)
		return
	}
	v.Orders = r.ordered(v)
	plan := r.planner.Plan(v, now)
	r.tell(plan.Waiting)
	r.slots.settled = plan.Settled
	var changes []change[shard.Slot]
	for _, c := range plan.Changes {
		changes = append(changes, change[shard.Slot]{
			row: c.Slot, replaces: c.Row.Version, why: string(c.Why), urgent: len(c.Present) > 0, // it begins a term
			write: func(ctx context.Context) error {
				return r.leadership.Write(ctx, membership.Change{Slot: c.Slot, Row: c.Row, Absent: c.Absent, Present: c.Present})
			},
		})
	}
	r.slots.begin(ctx, r, changes, now)
}

func (r *reign) rowVersion(n shard.Slot) int64 { return r.view.Table.Row(n).Version }

// noteSlots takes what became of changes of slots; see [pen.note].
func (r *reign) noteSlots(w written[shard.Slot]) (current bool, err error) {
	done, current, err := r.slots.note(w, r.rowVersion)
	for why, n := range done.counts {
		for range n {
			r.cfg.Moved(placement.Reason(why))
		}
		r.cfg.Logger.Info("wrote slots", slog.String("reason", why), slog.Int("slots", n))
	}
	if done.failed != nil {
		r.cfg.Logger.Warn("slots may not have been written; looking again", slog.Any("error", done.failed))
	}
	return current, err
}

// over reports whether an error means that this is not the leader.
func (r *reign) over(err error) bool {
	if err != nil {
		r.cfg.Logger.Warn("stopped writing rows", slog.Any("error", err))
	}
	return err != nil
}

// brokers are those that are announced. Cordoned ones are to give their slots
// away, unless there is nobody else who stays.
func brokers(view membership.View) []placement.Broker {
	nodes := view.With(membership.Broker)
	others := slices.ContainsFunc(nodes, func(n membership.Node) bool { return !n.Draining && !n.Cordoned })
	var all []placement.Broker
	for _, n := range nodes {
		all = append(all, placement.Broker{
			Member: n.Member(), Addr: n.Addr, Zone: n.Zone, Draining: n.Draining || n.Cordoned && others,
		})
	}
	return all
}

// probe asks those who hold slots that nobody in sync of which is announced
// whether they are there. A finding is no reason to ask again.
func (r *reign) probe(ctx context.Context, now time.Time) {
	if !r.view.Connected || now.Before(r.cautious) || r.slots.settled {
		return
	}
	for n := range shard.Slot(shard.Slots) {
		row := r.view.Table.Row(n)
		if slices.ContainsFunc(holders(row), r.announced) {
			continue
		}
		for _, member := range holders(row) {
			node, ok := r.holder(member, row)
			if !ok || node.Durable || r.replaced(member) || r.probing[member] || len(r.probing) == maxProbes {
				continue
			}
			r.probing[member] = true
			r.helpers.Go(func() { r.findings <- finding{member, r.cfg.Probe(ctx, node)} })
		}
	}
}

func (r *reign) announced(member string) bool {
	_, announced := r.view.Node(member)
	return announced
}

// replaced reports whether another id is announced under the member's name.
func (r *reign) replaced(member string) bool {
	name, id, _ := strings.Cut(member, "@")
	now, ok := r.view.Nodes[name]
	return ok && now.ID != id
}

// holder is what is known of a member that is not announced: at least, of a
// primary, what its row says; false if that is nothing.
func (r *reign) holder(member string, row shard.Row) (membership.Node, bool) {
	if node, known := r.members.node(member); known {
		return node, true
	}
	name, id, _ := strings.Cut(member, "@")
	return membership.Node{Name: name, ID: id, Addr: row.Addr, Durable: r.cfg.Durable}, member == row.Primary && row.Addr != ""
}

func (r *reign) learn(f finding, now time.Time) {
	delete(r.probing, f.member)
	r.slots.settled = false
	if !r.announced(f.member) && !now.Before(r.cautious) {
		r.verdicts[f.member] = f.verdict
	}
}

// lost are the absent members whose log is known to be lost.
func (r *reign) lost() map[string]bool {
	lost := map[string]bool{}
	for member, verdict := range r.verdicts {
		node, _ := r.members.node(member)
		if verdict == Gone || verdict == Silent && node.Draining {
			lost[member] = true
		}
	}
	return lost
}

// tell keeps what slots wait for, and says so when it changes.
func (r *reign) tell(waiting map[shard.Slot]placement.Wait) {
	before := tally(r.waiting)
	func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waiting = waiting
	}()
	counts := tally(waiting)
	if maps.Equal(before, counts) {
		return
	}
	for what, n := range counts {
		r.cfg.Logger.Warn("slots have no primary, and wait",
			slog.String("for", string(what)), slog.Int("slots", n), slog.String("hint", Hint(what)))
	}
	if len(waiting) == 0 {
		r.cfg.Logger.Info("no slot waits for a primary any more")
	}
}

func tally(waiting map[shard.Slot]placement.Wait) map[placement.Wait]int {
	counts := map[placement.Wait]int{}
	for _, what := range waiting {
		counts[what]++
	}
	return counts
}

// Hint says what slots wait for to those who know the system from outside.
func Hint(what placement.Wait) string {
	switch what {
	case placement.ForCaution:
		return "etcd was out of reach a moment ago, or this leader is new: brokers may be late to announce themselves"
	case placement.ForMajority:
		return "more than half of the brokers vanished at once; check their network before their processes"
	case placement.ForSilence:
		return "all who hold their messages are silent; they start empty after --broker.unclean-after"
	case placement.ForBrokers:
		return "there is no broker that does not drain"
	case placement.ForReturn:
	}
	return "all who hold their messages are silent; start these brokers again, or give the messages up with comet slots recover"
}
