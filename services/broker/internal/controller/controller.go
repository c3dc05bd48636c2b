// Package controller writes the rows of the slot table that are not their
// primaries' to write, and those of presence shards: every broker campaigns, one
// of them leads, and what packages placement and holding plan it writes by
// compare-and-swap.
//
//  1. Rows are written only while leading: each write compares the row's
//     version, the leader's own election key, and who must be absent and
//     present. A leader that may have lost its place stops at once.
//  2. A silent member's log counts as lost only on evidence: another id is
//     announced under its name (package placement sees that), or it is absent,
//     not durable, and the probe says that it is gone, or it is so after
//     draining and its address is silent. A member that answers keeps its
//     slots, announced or not. Only slots nobody in sync of which is announced
//     need evidence.
//  3. For three leases after the store came into reach, at its start or after
//     a gap, and after a pause of this process, a leader gathers no evidence
//     and declares nobody absent: everybody has had the time to announce itself
//     again (CORRECTNESS rule 14). What counts is how long this process has
//     watched, also before its election.
//  4. A plan is made only from a view that shows the outcome of the plan before.
//     Every view is seen, also while a plan is being written.
//  5. While nothing is to be done, and time alone changes nothing about that,
//     no plan is made until something happens.
//  6. Orders are carried out by the leader, or refused with a reason; they end
//     with its leadership.
//  7. Rows of slots and of presence shards are planned and written each for
//     themselves: neither waits for the other.
package controller

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

const (
	maxWrites    = 32 // rows written at a time
	maxWishes    = 8  // of these, where nothing waits for them
	writeTimeout = 3 * time.Second
	planEvery    = time.Second
	retryAfter   = 500 * time.Millisecond
	quarantine   = 3  // leases
	maxProbes    = 16 // under way
	maxOrders    = 64 // under way
)

// Verdict is what a probe found at a member's address.
type Verdict int

// The verdicts.
const (
	// Silent: nothing can be said.
	Silent Verdict = iota
	// Alive: the member itself answered.
	Alive
	// Gone: nobody listens there, or somebody else does.
	Gone
)

// Config says what a controller works with. All fields but Placement and
// Durable are required.
type Config struct {
	Directory membership.Directory
	// Candidate is this broker as name@id.
	Candidate string
	// Probe asks who is at a node's address; it returns soon.
	Probe func(ctx context.Context, n membership.Node) Verdict
	// Lease is the directory's.
	Lease time.Duration
	// Placement is what is wanted.
	Placement placement.Config
	// Durable is what members are taken for that were never seen announced;
	// of others their nodes say it.
	Durable bool
	// Moved is told of every row that was written.
	Moved  func(why placement.Reason)
	Logger *slog.Logger
}

// Controller is a candidate, and at times the leader.
type Controller struct {
	cfg     Config
	members memory

	mu    sync.Mutex
	reign *reign // nil while not leading
}

// New returns a Controller that does nothing yet.
func New(cfg Config) *Controller { return &Controller{cfg: cfg} }

// Run campaigns, and leads when elected, until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var remembering sync.WaitGroup
	defer remembering.Wait()
	remembering.Go(func() { c.members.follow(c.cfg.Directory.Watch(ctx)) })
	for ctx.Err() == nil {
		leadership, err := c.cfg.Directory.Campaign(ctx, c.cfg.Candidate)
		if err != nil {
			if ctx.Err() == nil {
				c.cfg.Logger.Warn("campaign failed", slog.Any("error", err))
				backoff.Pause(ctx, retryAfter)
			}
			continue
		}
		c.cfg.Logger.Info("elected to be the controller")
		c.lead(ctx, leadership)
		resign(ctx, leadership)
	}
	return nil
}

// lead writes rows until the leadership may be lost, or ctx ends.
func (c *Controller) lead(ctx context.Context, leadership membership.Leadership) {
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer cancel()
	helpers.Go(func() {
		defer cancel()
		select {
		case <-ctx.Done():
		case <-leadership.Lost():
			c.cfg.Logger.Warn("the leadership may be lost; stopped writing rows")
		}
	})
	r := newReign(c, leadership, &helpers, time.Now())
	c.crown(r)
	defer r.end()
	defer c.crown(nil)
	views := c.cfg.Directory.Watch(ctx)
	tick := time.NewTicker(planEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case v, ok := <-views:
			if !ok {
				return
			}
			r.see(v, time.Now())
			r.probe(ctx, time.Now())
		case f := <-r.findings:
			r.learn(f, time.Now())
		case o := <-r.orders:
			r.take(o)
		case w := <-r.slots.written:
			if current, err := r.noteSlots(w); r.over(err) {
				return
			} else if !current {
				continue // until there is a newer view
			}
		case w := <-r.shards.written:
			if current, err := r.notePresence(w); r.over(err) {
				return
			} else if !current {
				continue // likewise
			}
		case <-tick.C:
			r.probe(ctx, time.Now())
		}
		r.act(ctx, time.Now())
	}
}

// crown says who leads here now.
func (c *Controller) crown(r *reign) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reign = r
}

// resign lets others lead at once, also when ctx has ended.
func resign(ctx context.Context, leadership membership.Leadership) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	leadership.Resign(ctx)
}
