package broker

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/hub"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// ownership is which slots this broker serves. It follows the directory:
//
//  1. A slot is served only while the newest row heard of names this member as
//     primary; its log was made empty, at the row's base, for the row's term.
//  2. Before it serves a slot of an announced older primary it has that one's
//     word that it stopped, or evidence that it is gone. So whatever the old
//     one acknowledged was committed before the first follower attached here,
//     who was told that everything below the new base may be gone.
//  3. Until then it answers like one who has not seen the row yet.
//  4. Whoever hears of a newer primary, from the directory or from itself,
//     stops at once (CORRECTNESS rule 4).
type ownership struct {
	self   string
	slots  slot.Config // of every slot, but for term and base
	hub    *hub.Hub
	peers  peers
	logger *slog.Logger

	view   atomic.Pointer[membership.View] // nil until the first one
	places [shard.Slots]place

	transitions sync.Mutex // held while slots are taken or given up
	takeovers   sync.WaitGroup
	news        atomic.Pointer[chan struct{}] // closed by the next transition
}

// place is what is known of one slot, and the slot if it is served.
type place struct {
	version atomic.Int64 // of the row that is acted on

	mu     sync.Mutex
	row    shard.Row   // the newest one heard of
	log    *slot.Slot  // nil: not served
	fanOut *hub.Slot   // with log
	copies replica.Set // with log
}

func newOwnership(self string, slots slot.Config, others peers, logger *slog.Logger) *ownership {
	o := &ownership{self: self, slots: slots, peers: others, logger: logger}
	o.announceLocked()
	o.hub = hub.New(func(n shard.Slot) int64 { return o.places[n].version.Load() })
	return o
}

// follow acts on views until there are no more of them, when ctx ended.
func (o *ownership) follow(ctx context.Context, views <-chan membership.View) {
	defer o.takeovers.Wait()
	for view := range views {
		o.apply(ctx, view)
	}
}

// known returns the newest view, empty before the first one.
func (o *ownership) known() membership.View {
	if v := o.view.Load(); v != nil {
		return *v
	}
	return membership.View{}
}

// apply acts on the rows of a view that are new.
func (o *ownership) apply(ctx context.Context, view membership.View) {
	o.view.Store(&view)
	o.transitions.Lock()
	defer o.transitions.Unlock()
	defer o.announceLocked()
	var waiting []*handover
	for n := range shard.Slot(shard.Slots) {
		row := view.Table.Row(n)
		before, take := o.learnLocked(n, row)
		if !take {
			continue
		}
		t := takeover{n, row}
		if olds := o.olds(before, row, view); len(olds) > 0 {
			waiting = addTakeover(waiting, olds, t)
			continue
		}
		o.installLocked(t)
	}
	for _, h := range waiting {
		o.takeovers.Go(func() { o.takeOver(ctx, h) })
	}
}

// learnLocked takes note of a row, gives the slot up if the row demands it, and
// reports whether the slot is to be taken over, and the row before.
func (o *ownership) learnLocked(n shard.Slot, row shard.Row) (before shard.Row, take bool) {
	p := &o.places[n]
	p.mu.Lock()
	before = p.row
	if row.Version <= before.Version {
		p.mu.Unlock()
		return before, false
	}
	p.row = row
	mine := row.Primary == o.self
	served := p.log != nil
	stays := mine && served && p.log.Term() == row.Term
	if stays || !mine {
		p.version.Store(row.Version)
	}
	if !stays {
		p.log, p.fanOut, p.copies = nil, nil, nil
	}
	p.mu.Unlock()
	if served && !stays {
		o.hub.Remove(n)
	}
	return before, mine && !stays
}

// olds returns who may still serve a slot by an older row.
func (o *ownership) olds(before, row shard.Row, view membership.View) []membership.Node {
	switch {
	case row.Term <= 1:
		return nil
	case row.Term == before.Term+1 && before.Primary != "":
		old, announced := view.Node(before.Primary)
		if !announced || old.Member() == o.self {
			return nil
		}
		return []membership.Node{old}
	}
	// Who came before is not known here: any broker may think it is its slot.
	return slices.DeleteFunc(view.With(membership.Broker), func(b membership.Node) bool { return b.Member() == o.self })
}

// hearTimeout is how long a publish waits for a row its sender has seen.
const hearTimeout = time.Second

// hear waits until a row of the given version, or a newer one, is acted on;
// false if that takes too long.
func (o *ownership) hear(ctx context.Context, n shard.Slot, version int64) bool {
	var timeout <-chan time.Time
	for {
		news := *o.news.Load()
		if o.places[n].version.Load() >= version {
			return true
		}
		if timeout == nil {
			timer := time.NewTimer(hearTimeout)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-news:
		case <-timeout:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// announceLocked wakes those who wait for a row.
func (o *ownership) announceLocked() {
	news := make(chan struct{})
	if old := o.news.Swap(&news); old != nil {
		close(*old)
	}
}

// installLocked serves a slot with an empty log.
func (o *ownership) installLocked(t takeover) {
	p := &o.places[t.slot]
	cfg := o.slots
	cfg.Term, cfg.Base = t.row.Term, t.row.Base
	log := slot.New(cfg)
	fanOut := o.hub.Add(t.slot, &p.mu, log)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log, p.fanOut, p.copies = log, fanOut, replica.Sole{}
	p.version.Store(t.row.Version)
}

// serving is how many slots are served.
func (o *ownership) serving() int {
	served := 0
	o.each(func(*place) { served++ })
	return served
}

// bytes is how much memory the histories of the served slots take.
func (o *ownership) bytes() int {
	bytes := 0
	o.each(func(p *place) { bytes += p.log.History().Bytes() })
	return bytes
}

// expire drops what is too old, in pieces that keep no slot locked for long.
func (o *ownership) expire(now time.Time) {
	const budget = 1024
	for more := true; more; {
		more = false
		o.each(func(p *place) { more = p.log.Expire(now, budget) || more })
	}
}

// each calls fn for every served slot, with its lock held.
func (o *ownership) each(fn func(p *place)) {
	for n := range o.places {
		o.places[n].ifServed(fn)
	}
}

func (p *place) ifServed(fn func(p *place)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log != nil {
		fn(p)
	}
}
