package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

// written is what became of changes.
type written struct {
	changes  []placement.Change
	outcomes []error // of each
}

// write writes rows, many at a time, each for itself.
func (r *reign) write(ctx context.Context, changes []placement.Change) written {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	w := written{changes, make([]error, len(changes))}
	var group errgroup.Group
	group.SetLimit(maxWishes)
	if slices.ContainsFunc(changes, func(c placement.Change) bool { return len(c.Present) > 0 }) { // begins a term
		group.SetLimit(maxWrites)
	}
	for i, c := range changes {
		group.Go(func() error {
			w.outcomes[i] = r.leadership.Write(ctx, membership.Change{
				Slot: c.Slot, Row: c.Row, Absent: c.Absent, Present: c.Present,
			})
			return nil
		})
	}
	_ = group.Wait()
	return w
}

// note takes what became of the changes and reports whether the view they were
// made from was right; an error means that this is not the leader.
func (r *reign) note(w written) (current bool, err error) {
	r.writing = false
	counts := map[placement.Reason]int{}
	var failed error
	current = true
	for i, err := range w.outcomes {
		c := w.changes[i]
		switch {
		case errors.Is(err, membership.ErrNotLeader):
			return false, fmt.Errorf("write slots: %w", err)
		case errors.Is(err, membership.ErrConflict):
			current = false
			continue
		case err != nil:
			failed = err
		default:
			counts[c.Why]++
			r.cfg.Moved(c.Why)
		}
		if r.view.Table.Row(c.Slot).Version == c.Row.Version {
			r.unseen[c.Slot] = c.Row.Version
		}
	}
	for why, n := range counts {
		r.cfg.Logger.Info("wrote slots", slog.String("reason", string(why)), slog.Int("slots", n))
	}
	if failed != nil {
		r.cfg.Logger.Warn("slots may not have been written; looking again", slog.Any("error", failed))
	}
	return current, nil
}
