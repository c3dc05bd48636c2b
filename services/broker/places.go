package broker

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/disk"
	"github.com/comet-push/comet/services/broker/internal/hub"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// places are all slots as they are at this broker: for each its log, its part
// in replicating that (package replica decides, what it asks for is done here),
// and its followers.
//
//  1. Every event of a slot is told under the slot's lock, and what follows from
//     it is done, in order, before the lock is let go.
//  2. Nothing is waited for under a lock: messages to other brokers are queued,
//     the directory is asked by the clerk, publishers get their answers through
//     the queues of their streams.
//  3. A slot has followers and readers here from the moment the machine says
//     Serve until it says Stop; a copy has followers alone, from Relay on.
type places struct {
	self      string
	cfg       Config
	directory membership.Directory
	hub       *hub.Hub
	mesh      mesh
	clerk     *clerk
	moves     chan *place // that wait for their turn to be handed over
	all       [shard.Slots]place

	view    atomic.Pointer[membership.View] // nil until the first one
	metrics *metrics
	logger  *slog.Logger

	// Of the goroutine that follows views.
	nodes map[string]membership.Node // brokers to be connected with, by member

	// Of the goroutine that ticks.
	renewed time.Time // as of the last tick
}

// mesh connects the brokers of a cluster. It tells places what comes.
type mesh interface {
	// Send sends a message about a slot to a member, and never blocks. Where
	// there is no stream it does nothing.
	Send(member string, n shard.Slot, m replica.Message)
	// Probe asks all members for a sign of life, of which Heard tells.
	Probe()
	// Peers says with whom to keep a stream.
	Peers(nodes []membership.Node)
}

// place is one slot.
type place struct {
	number  shard.Slot
	version atomic.Int64 // of row, for those who do not hold mu

	mu      sync.Mutex
	row     shard.Row // the newest that was told
	began   int64     // version of the first row of its term that was told
	log     *slot.Slot
	journal *disk.Journal // nil without a disk
	replica *replica.Replica
	effects replica.Effects
	fanOut  *hub.Slot     // nil: not served
	relays  bool          // it serves followers only: another member leads
	changed chan struct{} // closed by the next change that readers wait for; nil: none wait

	waiting   []offer // appended, not committed; in the order of the log but for duplicates
	parked    []offer // not decided yet; oldest first
	parkedFor int     // bytes of these
	unheard   int64   // a version that was waited for in vain

	doubted  time.Time // when a follower named a position beyond the log; zero: that was answered
	errand   errand    // the clerk's reading of the row
	handover handover
	renewed  time.Time // what was told of the lease
	lapsed   bool      // the lease may have ended; the row is to be read before it counts again
}

func newPlaces(cfg Config, deps Deps, m *metrics) *places {
	s := &places{
		self: deps.Node.Member(), cfg: cfg, directory: deps.Directory,
		metrics: m, logger: deps.Logger, nodes: map[string]membership.Node{},
		moves: make(chan *place, shard.Slots),
	}
	s.hub = hub.New(func(n shard.Slot) int64 { return s.all[n].version.Load() })
	s.clerk = newClerk(s)
	for n := range s.all {
		p := &s.all[n]
		p.number = shard.Slot(n)
		p.log = slot.New(cfg.logs(deps.Namespaces))
		p.replica = replica.New(s.machine(), p.log)
	}
	return s
}

// machine is how every slot is replicated.
func (s *places) machine() replica.Config {
	return replica.Config{Self: s.self, MinInSync: s.cfg.MinInSync, UncleanAfter: s.cfg.UncleanAfter}
}

// Run follows the directory, and keeps the machines' time, until ctx ends.
func (s *places) Run(ctx context.Context) error {
	return run.All(ctx,
		run.Named("clerk", s.clerk),
		run.Named("moves", run.Func(s.move)),
		run.Named("rows", run.Func(s.follow)),
		run.Named("ticks", run.Func(s.tick)),
		run.Named("sweep", run.Func(s.sweep)),
	)
}

// known returns the newest view, empty before the first one.
func (s *places) known() membership.View {
	if v := s.view.Load(); v != nil {
		return *v
	}
	return membership.View{}
}

// tell tells the machine of a place of an event, by a function that calls it,
// and does what follows.
func (s *places) tell(p *place, event func(now time.Time)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.tellLocked(p, event)
}

func (s *places) tellLocked(p *place, event func(now time.Time)) {
	now := time.Now()
	event(now)
	s.carryOut(p)
	s.decideParked(p, now)
}

// carryOut does what the machine asks for, in its order.
func (s *places) carryOut(p *place) {
	e := &p.effects
	defer e.Reset()
	if e.Stop {
		s.stop(p)
	}
	if e.Commit > 0 {
		passed := p.log.Commit(e.Commit)
		if p.fanOut != nil {
			p.fanOut.Publish(passed)
		}
		if e.Few {
			s.refuseCommitted(p)
		}
		s.answer(p)
		p.wake()
	}
	if e.Serve {
		p.fanOut = s.hub.Add(p.number, &p.mu, served{p.log, s, p})
		p.wake()
	}
	if e.Relay {
		p.fanOut, p.relays = s.hub.AddCopy(p.number, &p.mu, served{p.log, s, p}), true
	}
	for i := range e.Sends {
		if piece, ok := e.Sends[i].Message.(*replica.Piece); ok && piece.Seq == 0 {
			s.metrics.snapshots.Inc()
		}
		s.mesh.Send(e.Sends[i].To, p.number, e.Sends[i].Message)
	}
	if e.Probe {
		s.mesh.Probe()
	}
	if e.Write != nil {
		s.clerk.write(p, e.Write)
	}
	if e.Move {
		s.queue(p)
	}
	p.endTurn()
	if e.Read {
		s.clerk.read(p)
	}
	for _, a := range e.Alarms {
		s.metrics.alarmed(a.What)
		s.logger.Error("a slot's copies do not fit together; it goes on without what does not",
			slog.Int("slot", int(p.number)), slog.String("what", string(a.What)),
			slog.String("member", a.Member), slog.Any("error", a.Err))
	}
}

// leads reports whether a slot is served as its primary does.
func (p *place) leads() bool { return p.fanOut != nil && !p.relays }

// stop ends serving a slot.
func (s *places) stop(p *place) {
	s.hub.Remove(p.number)
	p.fanOut, p.relays = nil, false
	for _, x := range p.waiting {
		s.refuse(p, x, replica.ErrMoved)
	}
	p.waiting = nil
	p.wake()
}

// wake lets who waits for a change look again.
func (p *place) wake() {
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// change is closed by the next change.
func (p *place) change() <-chan struct{} {
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// served is a log as the hub sees it.
type served struct {
	*slot.Slot
	places *places
	place  *place
}

// Fresh implements [hub.Log].
func (l served) Fresh() bool { return l.places.fresh(l.place) }

// Surely implements [hub.Log].
func (l served) Surely() bool {
	p := l.place
	if p.doubted.IsZero() {
		p.doubted = time.Now()
	}
	if !p.provenSince(p.doubted) {
		l.places.mesh.Probe()
		return false
	}
	p.doubted = time.Time{}
	return true
}

// fresh reports whether the place has all that is committed in its slot, by
// whomever, or had it a moment ago.
func (s *places) fresh(p *place) bool { return p.provenSince(time.Now().Add(-s.cfg.freshFor())) }

// provenSince reports whether the place had all that was committed in its slot,
// by whomever, at some time that is not before a given one.
func (p *place) provenSince(t time.Time) bool {
	asOf, ok := p.replica.AsOf(time.Now())
	return ok && !asOf.Before(t)
}

// Up implements the mesh's handler: there is a new stream to a member.
func (s *places) Up(member string) {
	for n := range s.all {
		p := &s.all[n]
		s.tell(p, func(time.Time) { p.replica.Up(member, &p.effects) })
	}
}

// Down implements the mesh's handler: the stream to a member has ended.
func (s *places) Down(member string) {
	for n := range s.all {
		p := &s.all[n]
		s.tell(p, func(time.Time) { p.replica.Down(member) })
	}
}

// Receive implements the mesh's handler: a member sent something.
func (s *places) Receive(member string, n shard.Slot, m replica.Message) {
	p := &s.all[n]
	s.tell(p, func(now time.Time) { p.replica.Receive(now, member, m, &p.effects) })
}

// Heard implements the mesh's handler: a member answered what was sent then.
// Readers may have waited for that.
func (s *places) Heard(member string, sent time.Time) {
	s.each(func(p *place) {
		s.tellLocked(p, func(time.Time) { p.replica.Heard(member, sent) })
		p.wake()
	})
}

// needed are the slots of which others count on this broker's copy, how many
// they are, and those of which it is the only one.
func (s *places) needed() (all int, only []int) {
	s.each(func(p *place) {
		if slices.Contains(p.row.InSync, s.self) {
			all++
			if len(p.row.InSync) == 1 {
				only = append(only, int(p.number))
			}
		}
	})
	return all, only
}

// sweep drops what is too old from the slots' histories.
func (s *places) sweep(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.expire(now)
		}
	}
}

// expire drops what is too old, in pieces that keep no slot locked for long.
func (s *places) expire(now time.Time) {
	const budget = 1024
	for more := true; more; {
		more = false
		s.each(func(p *place) { more = p.log.Expire(now, budget) || more })
	}
}

// each calls fn for every place, with its lock held.
func (s *places) each(fn func(p *place)) {
	for n := range s.all {
		s.all[n].locked(fn)
	}
}

func (p *place) locked(fn func(p *place)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn(p)
}
