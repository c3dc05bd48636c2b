// Package run is the lifecycle of everything that lives longer than a call.
//
//  1. A component is built by its New, which starts nothing, and lives in Run.
//  2. Run returns nil when its context ended, after everything it started has
//     ended. Any other return is a failure of the component.
//  3. The cause of the context says why it ended: [ErrDraining] asks for a
//     goodbye to whoever is connected.
package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrDraining is the cause of a context that ends because the process is asked
// to leave: finish what is under way, start nothing new, say goodbye.
var ErrDraining = errors.New("draining")

// Component is something that runs.
type Component interface {
	// Run works until ctx ends, and then returns nil.
	Run(ctx context.Context) error
}

// Func is a function as a Component.
type Func func(ctx context.Context) error

// Run implements [Component].
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Named gives a component the name that errors of [All] call it by.
func Named(name string, c Component) Component { return named{name, c} }

type named struct {
	name string
	Component
}

func (n named) String() string { return n.name }

// All runs the components until ctx ends or one of them returns, then stops
// them one at a time, last first, so that none outlives what it depends on.
// They see the cause of ctx, or ErrDraining with the failure that ended All.
// It returns what the components returned, with their names.
func All(ctx context.Context, components ...Component) error {
	returned := make(chan struct{}, len(components)) // never blocks a component
	cells := make([]*cell, len(components))
	for i, c := range components {
		// Not a child of ctx's cancellation: each is stopped in its turn.
		own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		cells[i] = &cell{name: name(c, i), cancel: cancel, done: make(chan struct{})}
		go func() {
			defer func() { close(cells[i].done); returned <- struct{}{} }()
			cells[i].err = c.Run(own)
		}()
	}

	select {
	case <-ctx.Done():
	case <-returned:
	}
	cause := context.Cause(ctx)
	if cause == nil {
		cause = fmt.Errorf("%w: a part of the process ended", ErrDraining)
		markUnasked(cells)
	}
	var errs []error
	for _, c := range slices.Backward(cells) {
		c.cancel(cause)
		<-c.done
		if c.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, c.err))
		}
	}
	return errors.Join(errs...)
}

// cell is one running component.
type cell struct {
	name   string
	cancel context.CancelCauseFunc
	done   chan struct{}
	err    error // set before done is closed
}

var errUnasked = errors.New("ended without being asked to")

// markUnasked makes the end of a component that was not asked for an error,
// also if the component thinks it went well.
func markUnasked(cells []*cell) {
	for _, c := range cells {
		select {
		case <-c.done:
			if c.err == nil {
				c.err = errUnasked
			}
		default:
		}
	}
}

func name(c Component, i int) string {
	if s, ok := c.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("component %d", i+1)
}
