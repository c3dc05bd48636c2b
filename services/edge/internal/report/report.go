// Package report tells presence which sessions an edge has.
//
//  1. Every announced presence node has a stream of its own. It carries sessions
//     of the shards that the node holds in the newest view, and no others: all
//     of a shard first, between its numbers as begun and as synced, then what
//     changed, batched.
//  2. A shard that a node holds again, or wants, is sent again.
//  3. What is sent of a session is its state when it is sent, so changes in
//     between are left out and none is ever late, and what waits for a slow
//     node is bounded by the sessions there are, and those that are gone.
//  4. A stream that breaks or does not get its answers is begun anew, with all
//     sessions. The end of a session is sent at most once to each stream; one
//     that came back since follows it.
//  5. The vector is sent once a second, if it is another, behind all that was
//     marked, and all shards that were newly held, before it was asked for.
//  6. A record that somebody waits for (Confirm) is sent within 2 ms, with others
//     that come meanwhile.
//  7. Each second a stream says what the sessions of some shards sum up to; of a
//     shard about which something was marked meanwhile it does not. A node that
//     has another sum wants the shard.
//  8. When Run ends, what changed last has been sent, if the node took it.
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
	"github.com/comet-push/comet/internal/shard"
)

// Source knows the sessions, by public id. Its methods must not call the
// Reporter, but Superseded may.
type Source interface {
	// Sessions iterates over those there are.
	Sessions() iter.Seq[string]
	// State returns the state of one; false if it is gone.
	State(session string) (*edgev1.SessionState, bool)
	// Resume returns the resume of its state.
	Resume(session string) ([]byte, bool)
	// Sums sums up the sessions of shards, but for those of which that cannot be said
	// now.
	Sums(shards []shard.PresenceShard) map[shard.PresenceShard]shard.Sum
	// Vector returns up to where all sessions have been given each slot and have
	// confirmed it, as far as states do not say less that were marked before; nil:
	// nothing can be said. It is not changed afterwards.
	Vector() []uint64
	// Superseded says that presence refused what it was told of a session: this
	// generation stands, at this home (name@id); the session is over if it has
	// none. It must not block.
	Superseded(session string, generation *edgev1.Generation, home string)
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
	beatEach   = time.Second
	goodbye    = time.Second
)

// Reporter reports. Changed and Gone may be called under any lock: they take one
// under which nothing is called.
type Reporter struct {
	cfg    Config
	source Source
	syncs  prometheus.Counter
	bytes  prometheus.Counter

	mu      sync.Mutex // leaf
	feeds   map[*feed]struct{}
	waiting []*confirmation // by time; some are over
}

// New returns a Reporter that reports once it runs.
func New(cfg Config, source Source) *Reporter {
	return &Reporter{
		cfg: cfg, source: source, feeds: map[*feed]struct{}{},
		syncs: promauto.With(cfg.Registerer).NewCounter(prometheus.CounterOpts{
			Name: "comet_edge_report_syncs_total", Help: "Times all sessions of its shards were sent to a presence node.",
		}),
		bytes: promauto.With(cfg.Registerer).NewCounter(prometheus.CounterOpts{
			Name: "comet_edge_report_bytes_total", Help: "Bytes sent to presence nodes, before compression and framing.",
		}),
	}
}

// Changed says that a session is new, or its channels changed.
func (r *Reporter) Changed(session string) { r.mark(session, nil) }

// Gone says that a session is over, and how.
func (r *Reporter) Gone(session string, how *edgev1.SessionGone) { r.mark(session, how) }

func (r *Reporter) mark(session string, gone *edgev1.SessionGone) {
	n := shard.OfSession(session)
	r.mu.Lock()
	defer r.mu.Unlock()
	for f := range r.feeds {
		if f.held[n] {
			f.mark(session, gone)
		}
	}
}

// Run keeps a stream to every presence node until ctx ends.
func (r *Reporter) Run(ctx context.Context) error {
	var streams sync.WaitGroup
	defer streams.Wait()
	type link struct {
		feed *feed
		stop context.CancelFunc
	}
	running := map[string]link{}
	defer func() {
		for _, l := range running {
			l.stop()
		}
	}()
	for v := range r.cfg.Directory.Watch(ctx) {
		present := map[string]bool{}
		for _, n := range v.With(membership.Presence) {
			key := n.Member() + " " + n.Addr
			present[key] = true
			l, known := running[key]
			if !known {
				own, stop := context.WithCancel(ctx)
				l = link{&feed{marked: make(chan struct{}, 1)}, stop}
				running[key] = l
				streams.Go(func() { r.keep(own, l.feed, n) })
			}
			r.assign(l.feed, v.Presence.Held(n.Member()))
		}
		for key, l := range running {
			if !present[key] {
				l.stop()
				delete(running, key)
			}
		}
	}
	return nil
}

// keep reports to one node until ctx ends.
func (r *Reporter) keep(ctx context.Context, f *feed, n membership.Node) {
	defer r.forget(f)
	for failures := 1; ; failures++ {
		begun := time.Now()
		err := r.stream(ctx, f, n)
		r.abandon(f)
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
