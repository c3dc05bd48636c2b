package relay

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

// Exchange is a request that a front relays. Exactly one of the outcomes is
// called for each Relay, unless it was dropped before. They must not block.
type Exchange interface {
	// Answered is the home's answer. settled: the session may be claimed.
	Answered(a hold.Answer, settled bool)
	// Elsewhere says that this edge is not the session's home; home may be empty.
	// begun: it was until just now, and the request may be half done.
	Elsewhere(home string, begun bool)
	// Over says that the session is over.
	Over()
	// Failed says that the home is lost, and nobody knows what it did. Or there
	// was no room, and begun is false: the home never heard of it.
	Failed(begun bool)
}

// Config configures a Front.
type Config struct {
	// Self is this edge as name@id.
	Self      string
	Directory membership.Directory
	Conns     *rpc.Pool
	// Most bounds the exchanges that wait for one home.
	Most   int
	Logger *slog.Logger
}

// Front relays to homes.
type Front struct {
	cfg Config

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // of Run, under which links run
	links   map[string]*link
	running sync.WaitGroup
}

// NewFront returns a Front that relays while it runs.
func NewFront(cfg Config) *Front {
	return &Front{cfg: cfg, links: map[string]*link{}}
}

// Run keeps the streams to homes until ctx ends. Homes that the directory does
// not list any more are given up.
func (f *Front) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	f.mu.Lock()
	f.ctx = ctx
	f.mu.Unlock()
	for v := range f.cfg.Directory.Watch(ctx) {
		f.mu.Lock()
		for member, l := range f.links {
			if _, announced := v.Node(member); !announced {
				l.cancel(nil)
			}
		}
		f.mu.Unlock()
	}
	cancel()
	f.running.Wait()
	return nil
}

// Relay relays a request to a home. number names it in what the front tells of
// it later; it is used once.
func (f *Front) Relay(home membership.Node, number uint64, r *edgev1.RelayedRequest, x Exchange) {
	l := f.link(home)
	if l == nil || !l.begin(number, r, x) {
		x.Failed(false)
	}
}

// Over tells a home how an exchange ended that it has answered, or that it has
// not answered and whose client is gone.
func (f *Front) Over(home string, number uint64, written bool) {
	if l := f.find(home); l != nil {
		l.over(number, written)
	}
}

// Hurry asks a home for an early answer.
func (f *Front) Hurry(home string, number uint64) {
	if l := f.find(home); l != nil {
		l.hurry(number)
	}
}

func (f *Front) find(home string) *link {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.links[home]
}

// link returns the stream to a home, a new one if need be; nil if the front
// does not run.
func (f *Front) link(home membership.Node) *link {
	f.mu.Lock()
	defer f.mu.Unlock()
	member := home.Member()
	if l := f.links[member]; l != nil && !l.ended() {
		return l
	}
	if f.ctx == nil || f.ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithCancelCause(f.ctx)
	l := newLink(f.cfg.Most, cancel)
	f.links[member] = l
	f.running.Go(func() {
		defer cancel(nil)
		err := l.run(ctx, f.cfg, home)
		f.mu.Lock()
		if f.links[member] == l {
			delete(f.links, member)
		}
		f.mu.Unlock()
		if lost := l.end(); !errors.Is(err, context.Canceled) && !errors.Is(err, errIdle) || lost > 0 {
			f.cfg.Logger.Info("lost the stream to an edge",
				slog.String("edge", member), slog.Int("requests", lost), slog.Any("error", err))
		}
	})
	return l
}
