// Package report tells presence which sessions an edge has.
//
//  1. Every announced presence node has a stream of its own: all sessions first,
//     then synced, then what changed, batched.
//  2. What is sent of a session is its state when it is sent, so changes in
//     between are left out and none is ever late, and what waits for a slow
//     node is bounded by the sessions there are, and those that are gone.
//  3. A stream that breaks or does not get its answers is begun anew, with all
//     sessions. The end of a session is sent at most once to each stream.
//  4. When Run ends, what changed last has been sent, if the node took it.
package report

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
)

// Source knows the sessions, by public id. Its methods must not call the
// Reporter.
type Source interface {
	// Sessions iterates over those there are.
	Sessions() iter.Seq[string]
	// State returns the state of one; false if it is gone.
	State(session string) (*edgev1.SessionState, bool)
}

// Config configures a Reporter.
type Config struct {
	// Edge is this node as name@id.
	Edge       string
	Directory  membership.Directory
	Conns      *rpc.Pool
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

const (
	batchEvery = 100 * time.Millisecond
	batchMost  = 500              // changes in a batch
	window     = 8                // batches that are not answered
	patience   = 10 * time.Second // for an answer
	maxGone    = 1 << 18          // ends of sessions that wait for one node
	maxPause   = 2 * time.Second
	goodbye    = time.Second
)

// Reporter reports. Changed and Gone may be called under any lock: they take one
// under which nothing is called.
type Reporter struct {
	cfg    Config
	source Source
	syncs  prometheus.Counter

	mu    sync.Mutex // leaf
	feeds map[string]*feed
}

// New returns a Reporter that reports once it runs.
func New(cfg Config, source Source) *Reporter {
	return &Reporter{
		cfg: cfg, source: source, feeds: map[string]*feed{},
		syncs: promauto.With(cfg.Registerer).NewCounter(prometheus.CounterOpts{
			Name: "comet_edge_report_syncs_total", Help: "Times all sessions were sent to a presence node.",
		}),
	}
}

// Changed says that a session is new, or its channels changed.
func (r *Reporter) Changed(session string) { r.mark(session, "") }

// Gone says that a session is over, and why.
func (r *Reporter) Gone(session, reason string) { r.mark(session, reason) }

func (r *Reporter) mark(session, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.feeds {
		f.mark(session, reason)
	}
}

// Run keeps a stream to every presence node until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	var streams sync.WaitGroup
	defer streams.Wait()
	running := map[string]context.CancelFunc{}
	defer func() {
		for _, cancel := range running {
			cancel()
		}
	}()
	for v := range r.cfg.Directory.Watch(ctx) {
		present := map[string]bool{}
		for _, n := range v.With(membership.Presence) {
			key := n.Member() + " " + n.Addr
			present[key] = true
			if running[key] != nil {
				continue
			}
			own, cancel := context.WithCancel(ctx)
			running[key] = cancel
			streams.Go(func() { r.keep(own, key, n) })
		}
		for key, cancel := range running {
			if !present[key] {
				cancel()
				delete(running, key)
			}
		}
	}
	return nil
}

// keep reports to one node until ctx ends.
func (r *Reporter) keep(ctx context.Context, key string, n membership.Node) {
	f := &feed{marked: make(chan struct{}, 1)}
	r.mu.Lock()
	r.feeds[key] = f
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.feeds, key)
	}()
	for failures := 1; ; failures++ {
		begun := time.Now()
		err := r.stream(ctx, f, n)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > patience {
			failures = 1
		}
		r.cfg.Logger.Warn("lost the report stream to presence; all sessions are sent again",
			slog.String("node", n.Member()), slog.Any("error", err))
		if !pause(ctx, backoff.Policy{Base: batchEvery, Max: maxPause}.Delay(failures)) {
			return
		}
	}
}

// feed is what one node has not been told yet.
type feed struct {
	marked chan struct{} // of one: dirty is not empty any more

	dirty    map[string]string // session → reason of its end, empty while it lives; guarded by Reporter.mu, as is the rest
	gone     int               // of these
	overflow bool
}

func (f *feed) mark(session, reason string) {
	if f.dirty == nil {
		return // no stream: all will be sent
	}
	if was, ok := f.dirty[session]; ok && was != "" {
		return // it ended
	}
	if reason != "" {
		if f.gone++; f.gone > maxGone {
			f.overflow = true
			f.dirty = nil
			return
		}
	}
	f.dirty[session] = reason
	if len(f.dirty) == 1 {
		select {
		case f.marked <- struct{}{}:
		default:
		}
	}
}

// begin makes the feed collect changes.
func (r *Reporter) begin(f *feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.dirty, f.gone, f.overflow = map[string]string{}, 0, false
}

// take takes at most a batch of changes out of the feed; ok is false if it
// overflowed.
func (r *Reporter) take(f *feed) (changes map[string]string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes = map[string]string{}
	for session, reason := range f.dirty {
		if len(changes) == batchMost {
			break
		}
		changes[session] = reason
		delete(f.dirty, session)
		if reason != "" {
			f.gone--
		}
	}
	return changes, !f.overflow
}
