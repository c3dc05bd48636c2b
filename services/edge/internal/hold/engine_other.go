//go:build !linux

package hold

import (
	"context"
	"net"
	"net/http"
)

// Engine holds what its doors accept by goroutines: only on Linux it can do
// without.
type Engine struct{ Waiting }

// NewEngine returns an engine, which serves once it runs.
func NewEngine(cfg Config) *Engine { return &Engine{cfg.withDefaults().waiting()} }

// Listen returns the listener to serve instead of l.
func (e *Engine) Listen(l net.Listener) net.Listener { return l }

// ConnContext is for [http.Server].
func (e *Engine) ConnContext(ctx context.Context, _ net.Conn) context.Context { return ctx }

// ConnState is for [http.Server].
func (e *Engine) ConnState(net.Conn, http.ConnState) {}

// Direct does nothing: goroutines serve all requests.
func (e *Engine) Direct(http.Handler, func(*http.Request) bool) {}

// Counts counts the engine's connections.
func (e *Engine) Counts() Counts { return Counts{} }

// Run serves until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
