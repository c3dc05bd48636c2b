package broker

import (
	"context"
	"log/slog"
	"slices"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/controller"
)

// stepDownRetry is how often an older primary is asked to stop.
const stepDownRetry = 100 * time.Millisecond

// takeover is a slot that is to be served by a row.
type takeover struct {
	slot shard.Slot
	row  shard.Row
}

// handover is a group of takeovers that wait for the same older primaries.
type handover struct {
	olds      []membership.Node
	takeovers []takeover
}

func addTakeover(to []*handover, olds []membership.Node, t takeover) []*handover {
	same := func(h *handover) bool {
		return slices.EqualFunc(h.olds, olds, func(a, b membership.Node) bool { return a.Member() == b.Member() })
	}
	if i := slices.IndexFunc(to, same); i >= 0 {
		to[i].takeovers = append(to[i].takeovers, t)
		return to
	}
	return append(to, &handover{olds, []takeover{t}})
}

// takeOver serves slots once everybody who may still serve them by an older
// row has stopped or is gone.
func (o *ownership) takeOver(ctx context.Context, h *handover) {
	slots := make([]*brokerv1.SlotTerm, len(h.takeovers))
	for i, t := range h.takeovers {
		slots[i] = &brokerv1.SlotTerm{Slot: uint32(t.slot), Term: t.row.Term, Version: t.row.Version}
	}
	for _, old := range h.olds {
		if !o.persuade(ctx, old, slots) {
			return
		}
	}
	o.transitions.Lock()
	defer o.transitions.Unlock()
	defer o.announceLocked()
	for _, t := range h.takeovers {
		if o.wanted(t) {
			o.installLocked(t)
		}
	}
}

// persuade asks an older primary to stop until it has, or is known to be gone;
// false if ctx ended first. One that is merely silent may be acknowledging
// publishes, and is waited for.
func (o *ownership) persuade(ctx context.Context, old membership.Node, slots []*brokerv1.SlotTerm) bool {
	retry := time.NewTicker(stepDownRetry)
	defer retry.Stop()
	for {
		err := o.peers.stepDown(ctx, old, slots)
		if err == nil {
			return true
		}
		if o.gone(ctx, old) {
			o.logger.Info("took slots over from an owner that is gone",
				slog.String("owner", old.Member()), slog.Int("slots", len(slots)), slog.Any("error", err))
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-retry.C:
		}
	}
}

// gone reports whether a broker is known to have ended, by the evidence that
// the controller goes by, too.
func (o *ownership) gone(ctx context.Context, old membership.Node) bool {
	switch now, announced := o.known().Nodes[old.Name]; {
	case announced:
		return now.ID != old.ID
	case old.Draining:
		return true
	}
	return o.peers.probe(ctx, old) == controller.Gone
}

// wanted reports whether the row of a takeover is still the newest heard of.
func (o *ownership) wanted(t takeover) bool {
	p := &o.places[t.slot]
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log == nil && p.row.Version == t.row.Version
}

// stepDown stops serving slots of which the caller is the primary in a newer
// term.
func (o *ownership) stepDown(slots []*brokerv1.SlotTerm) {
	o.transitions.Lock()
	defer o.transitions.Unlock()
	defer o.announceLocked()
	for _, s := range slots {
		// Who the newer primary is will be seen in the directory.
		o.learnLocked(shard.Slot(s.GetSlot()), shard.Row{Term: s.GetTerm(), Version: s.GetVersion()})
	}
}
