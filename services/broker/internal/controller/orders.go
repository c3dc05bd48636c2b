package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

var (
	// ErrBusy is returned for an order while too many are under way.
	ErrBusy = errors.New("too many orders are under way")
	// ErrStore is returned for an order while the store is out of reach.
	ErrStore = errors.New("the directory cannot be reached")
)

// RefusedError is returned for an order that cannot be carried out.
type RefusedError struct{ Reason error }

// Error implements error.
func (e *RefusedError) Error() string { return e.Reason.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Reason }

// Recover starts a slot anew that nobody leads, although what was acknowledged
// may still be somewhere, and returns when its new row is written. Only the
// leader does: elsewhere it returns [membership.ErrNotLeader]. Other errors are
// a [RefusedError], [ErrBusy], [ErrStore], or that of ctx.
func (c *Controller) Recover(ctx context.Context, n shard.Slot) error {
	if err := c.order(ctx, &order{slot: n}); err != nil {
		return fmt.Errorf("recover slot %d: %w", n, err)
	}
	return nil
}

// Move makes a broker, by name, the one that should lead a slot, and returns
// when that is written; the slot's primary hands over once the broker holds
// everything. For errors see Recover.
func (c *Controller) Move(ctx context.Context, n shard.Slot, broker string) error {
	if err := c.order(ctx, &order{slot: n, broker: broker}); err != nil {
		return fmt.Errorf("move slot %d to %s: %w", n, broker, err)
	}
	return nil
}

// Waiting are the slots that nobody leads and that may not start anew yet, and
// what each waits for; false if another broker leads and knows.
func (c *Controller) Waiting() (map[shard.Slot]placement.Wait, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reign == nil {
		return nil, false
	}
	return maps.Clone(c.reign.waiting), true
}

// Leads reports whether this broker is the controller.
func (c *Controller) Leads() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reign != nil
}

// order is what an operator wants.
type order struct {
	ctx    context.Context //nolint:containedctx // an order is a call
	slot   shard.Slot
	broker string     // by name; empty: recover
	term   uint64     // of the slot when it was taken
	done   chan error // has room for the answer
}

func (c *Controller) order(ctx context.Context, o *order) error {
	c.mu.Lock()
	r := c.reign
	c.mu.Unlock()
	if r == nil {
		return membership.ErrNotLeader
	}
	o.ctx, o.done = ctx, make(chan error, 1)
	select {
	case r.orders <- o:
	case <-r.ended:
		return membership.ErrNotLeader
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-o.done:
		return err
	case <-r.ended:
		return membership.ErrNotLeader
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take begins to carry out an order.
func (r *reign) take(o *order) {
	switch {
	case !r.view.Connected:
		o.done <- ErrStore
	case len(r.standing) == maxOrders:
		o.done <- ErrBusy
	default:
		o.term = r.view.Table.Row(o.slot).Term
		r.standing, r.slots.settled = append(r.standing, o), false
		r.cfg.Logger.Info("an operator orders", slog.Int("slot", int(o.slot)), slog.String("move to", o.broker),
			slog.Bool("recover", o.broker == ""))
	}
}

// ordered answers those that are carried out, cannot be, or are given up, and
// returns the others.
func (r *reign) ordered(v placement.View) placement.Orders {
	orders := placement.Orders{Recover: map[shard.Slot]bool{}, Move: map[shard.Slot]string{}}
	r.standing = slices.DeleteFunc(r.standing, func(o *order) bool {
		if o.ctx.Err() != nil {
			return true
		}
		done, err := o.check(v)
		if done || err != nil {
			o.done <- err
			return true
		}
		if o.broker == "" {
			orders.Recover[o.slot] = true
		} else {
			orders.Move[o.slot] = o.broker
		}
		return false
	})
	return orders
}

// check reports whether an order is carried out, or why it cannot be.
func (o *order) check(v placement.View) (done bool, err error) {
	row := v.Table.Row(o.slot)
	if o.broker == "" {
		done = row.Term > o.term
		err = v.CheckRecover(o.slot)
	} else {
		done = len(row.Replicas) > 0 && strings.HasPrefix(row.Replicas[0], o.broker+"@")
		err = v.CheckMove(o.slot, o.broker)
	}
	if done {
		return true, nil
	}
	if err != nil {
		return false, &RefusedError{err}
	}
	return false, nil
}
