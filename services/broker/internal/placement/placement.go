// Package placement decides which broker owns which slot. Being written.
package placement

import "time"

// Planner decides and paces.
type Planner struct{}

// New returns a Planner.
func New(cfg Config) *Planner { panic("not yet") }

// Plan returns the changes to write now, in order. Call it with every new view
// and at least once a second.
func (p *Planner) Plan(v View, now time.Time) []Change { panic("not yet") }
