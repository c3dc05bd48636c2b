package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

// reign is the state of one time of leading. Only lead's goroutine touches it.
type reign struct {
	*Controller
	leadership membership.Leadership
	planner    *placement.Planner
	probes     *sync.WaitGroup
	findings   chan finding // has room for what every probe under way will say

	view     membership.View // the zero view: none yet
	cautious time.Time       // nobody is lost before
	verdicts map[string]Verdict
	probing  map[string]bool

	unseen   map[shard.Slot]int64 // written, and not in the view yet: what version they replaced
	patience time.Time            // when unseen is given up
}

// finding is what a probe found.
type finding struct {
	member  string
	verdict Verdict
}

func newReign(c *Controller, l membership.Leadership, probes *sync.WaitGroup, now time.Time) *reign {
	return &reign{
		Controller: c, leadership: l, planner: placement.New(placement.Config{}), probes: probes,
		findings: make(chan finding, maxProbes), cautious: c.members.steady(now).Add(quarantine * c.cfg.Lease),
		verdicts: map[string]Verdict{}, probing: map[string]bool{}, unseen: map[shard.Slot]int64{},
	}
}

// see takes a view. While the store was out of reach leases may have run out
// that nobody could renew.
func (r *reign) see(v membership.View, now time.Time) {
	first := r.view.Table == nil
	if !v.Connected || !r.view.Connected && !first {
		r.cautious = now.Add(quarantine * r.cfg.Lease)
		clear(r.verdicts)
	}
	r.view = v
	for member := range r.verdicts {
		if _, announced := v.Node(member); announced {
			delete(r.verdicts, member)
		}
	}
	for n, replaced := range r.unseen {
		if v.Table.Row(n).Version > replaced {
			delete(r.unseen, n)
		}
	}
}

// probe asks the owners that are not announced whether they are there.
func (r *reign) probe(ctx context.Context, now time.Time) {
	if !r.view.Connected || now.Before(r.cautious) {
		return
	}
	for n := range shard.Slot(shard.Slots) {
		owner := r.view.Table.Row(n).Primary
		if owner == "" || r.probing[owner] || len(r.probing) == maxProbes {
			continue
		}
		if _, announced := r.view.Node(owner); announced {
			continue
		}
		node, known := r.members.node(owner)
		if !known {
			node = silentOwner(r.view.Table.Row(n))
		}
		r.probing[owner] = true
		r.probes.Go(func() { r.findings <- finding{owner, r.cfg.Probe(ctx, node)} })
	}
}

// silentOwner is what a row says of a primary that was never seen here.
func silentOwner(row shard.Row) membership.Node {
	name, id, _ := strings.Cut(row.Primary, "@")
	return membership.Node{Name: name, ID: id, Addr: row.Addr}
}

func (r *reign) learn(f finding, now time.Time) {
	delete(r.probing, f.member)
	if _, announced := r.view.Node(f.member); !announced && !now.Before(r.cautious) {
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

// act writes what is planned; an error means that this is not the leader.
func (r *reign) act(ctx context.Context, now time.Time) error {
	if !r.view.Connected || len(r.unseen) > 0 && now.Before(r.patience) {
		return nil
	}
	clear(r.unseen)
	var brokers []placement.Broker
	for _, n := range r.view.With(membership.Broker) {
		brokers = append(brokers, placement.Broker{Member: n.Member(), Addr: n.Addr, Draining: n.Draining})
	}
	changes := r.planner.Plan(placement.View{
		Table: r.view.Table, Brokers: brokers, Lost: r.lost(), Cautious: now.Before(r.cautious),
	}, now)
	if len(changes) == 0 {
		return nil
	}
	r.patience = now.Add(writeTimeout)
	return r.write(ctx, changes)
}

// write writes rows, many at a time, each for itself.
func (r *reign) write(ctx context.Context, changes []placement.Change) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	outcomes := make([]error, len(changes))
	var group errgroup.Group
	group.SetLimit(maxWrites)
	for i, c := range changes {
		group.Go(func() error {
			outcomes[i] = r.leadership.Write(ctx, membership.Change{Slot: c.Slot, Row: c.Row, Absent: c.Absent})
			return nil
		})
	}
	_ = group.Wait()
	written := map[placement.Reason]int{}
	var failed error
	for i, err := range outcomes {
		switch {
		case err == nil:
			written[changes[i].Why]++
			r.cfg.Moved(changes[i].Why)
			r.unseen[changes[i].Slot] = changes[i].Row.Version
		case errors.Is(err, membership.ErrNotLeader):
			return fmt.Errorf("write slots: %w", err)
		case !errors.Is(err, membership.ErrConflict):
			failed = err
			r.unseen[changes[i].Slot] = changes[i].Row.Version
		}
	}
	for why, n := range written {
		r.cfg.Logger.Info("gave slots a new owner", slog.String("reason", string(why)), slog.Int("slots", n))
	}
	if failed != nil {
		r.cfg.Logger.Warn("slots may not have been written; looking again", slog.Any("error", failed))
	}
	return nil
}
