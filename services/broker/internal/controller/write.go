package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comet-push/comet/internal/membership"
)

// pen writes the rows of one kind, and knows which are written and not in the
// view yet. But for what is sent on written, only lead's goroutine touches it.
type pen[N comparable] struct {
	settled  bool // there is nothing to do until something happens
	writing  bool
	written  chan written[N] // has room for the one write under way
	unseen   map[N]int64     // written, and not in the view yet: what version they replaced
	patience time.Time       // when unseen is given up
}

// change is a row to write.
type change[N comparable] struct {
	row      N
	replaces int64 // version
	why      string
	urgent   bool // somebody waits for it
	write    func(ctx context.Context) error
}

// written is what became of changes.
type written[N comparable] struct {
	changes  []change[N]
	outcomes []error // of each
}

func newPen[N comparable]() pen[N] {
	return pen[N]{written: make(chan written[N], 1), unseen: map[N]int64{}}
}

// see takes a view: version is what each row has there.
func (p *pen[N]) see(version func(N) int64) {
	for n, replaced := range p.unseen {
		if version(n) > replaced {
			delete(p.unseen, n)
		}
	}
}

// free reports whether the view shows the outcome of what was written.
func (p *pen[N]) free(now time.Time) bool {
	if p.writing || len(p.unseen) > 0 && now.Before(p.patience) {
		return false
	}
	clear(p.unseen)
	return true
}

// begin writes rows in the background.
func (p *pen[N]) begin(ctx context.Context, r *reign, changes []change[N], now time.Time) {
	if len(changes) == 0 {
		return
	}
	p.patience, p.writing = now.Add(writeTimeout), true
	r.helpers.Go(func() { p.written <- writeAll(ctx, changes) })
}

// writeAll writes rows, many at a time, each for itself.
func writeAll[N comparable](ctx context.Context, changes []change[N]) written[N] {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	w := written[N]{changes, make([]error, len(changes))}
	var group errgroup.Group
	group.SetLimit(maxWishes)
	if slices.ContainsFunc(changes, func(c change[N]) bool { return c.urgent }) {
		group.SetLimit(maxWrites)
	}
	for i, c := range changes {
		group.Go(func() error {
			w.outcomes[i] = c.write(ctx)
			return nil
		})
	}
	_ = group.Wait()
	return w
}

// sums are how many rows were written for which reason, and why others may not
// have been.
type sums struct {
	counts map[string]int
	failed error
}

// note takes what became of the changes and reports whether the view they were
// made from was right; an error means that this is not the leader.
func (p *pen[N]) note(w written[N], version func(N) int64) (done sums, current bool, err error) {
	p.writing = false
	done.counts, current = map[string]int{}, true
	for i, err := range w.outcomes {
		c := w.changes[i]
		switch {
		case errors.Is(err, membership.ErrNotLeader):
			return done, false, fmt.Errorf("write rows: %w", err)
		case errors.Is(err, membership.ErrConflict):
			current = false
			continue
		case err != nil:
			done.failed = err
		default:
			done.counts[c.why]++
		}
		if version(c.row) == c.replaces {
			p.unseen[c.row] = c.replaces
		}
	}
	return done, current, nil
}
