// Package presence knows the sessions of the cluster, where each is at home and
// what it subscribes to. It arbitrates between edges, and tells backends.
//
//  1. A process holds the records of the shards for which a row of the directory
//     names it. Every edge streams its sessions of these to it. Nothing is stored:
//     a holder that starts is fed anew.
//  2. Locate and Claim are answered by a shard's first holder, once every edge in
//     the directory has told of all its sessions of that shard; until then callers
//     wait a little, then get NOT_READY. So nobody is told that a session is
//     unknown which an edge has.
//  3. Rosters, counts and sessions are asked of any process: it knows those of
//     the shards that it is the first holder of, and asks the others for theirs.
//     Nothing is answered, but NOT_READY, before all have heard all.
//  4. The sessions of an edge that the directory does not list any more stay until
//     they are claimed, for a grace at least, and are gone then. A stream that
//     breaks makes nothing lost.
//  5. A watch tells each change once, or ends with a reason; watch again then.
//     What moves from one edge to another neither leaves nor joins.
package presence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/presence/internal/holder"
)

// sweepEvery is how often lost sessions are looked at.
const sweepEvery = time.Second

const (
	maxTombstones = 1 << 18
	maxResume     = 64 << 10
)

// Config says what presence keeps. The zero value of a field is its default.
type Config struct {
	// Grace is how long the sessions of a lost edge can be claimed at least.
	// Default 60 s.
	Grace time.Duration
	// MaxSessions bounds the sessions of all edges. Default 2,000,000.
	MaxSessions int
	// MaxChannels bounds the channels of one session. Default 10,000.
	MaxChannels int
	// MaxWatches bounds the watches of all channels. Default 10,000.
	MaxWatches int
	// WatchQueue is how many changes may wait for one watch before it is ended
	// as too slow. Default 1,000.
	WatchQueue int
}

func (c Config) withDefaults() Config {
	if c.Grace == 0 {
		c.Grace = time.Minute
	}
	for _, d := range []struct {
		limit *int
		value int
	}{{&c.MaxSessions, 2_000_000}, {&c.MaxChannels, 10_000}, {&c.MaxWatches, 10_000}, {&c.WatchQueue, 1_000}} {
		if *d.limit == 0 {
			*d.limit = d.value
		}
	}
	return c
}

// Deps are what presence works with.
type Deps struct {
	// Node is this process as it is announced.
	Node       membership.Node
	Directory  membership.Directory
	Conns      *rpc.Pool
	Namespaces *namespace.Set
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Service is presence.
type Service struct {
	cfg     Config
	deps    Deps
	self    string // as name@id
	metrics *metrics

	mu      sync.Mutex // guards the holder, and what follows
	holder  *holder.Holder
	view    membership.View
	seen    bool          // the directory has answered
	whole   bool          // has been, once
	changed chan struct{} // closed when something has changed that callers wait for
}

// New returns a presence that does nothing yet.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Directory == nil {
		return nil, errors.New("presence needs a directory")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Registerer == nil {
		deps.Registerer = prometheus.NewRegistry()
	}
	cfg = cfg.withDefaults()
	s := &Service{cfg: cfg, deps: deps, self: deps.Node.Member(), changed: make(chan struct{})}
	s.metrics = newMetrics(deps.Registerer, s)
	s.holder = holder.New(holder.Config{
		Sessions: cfg.MaxSessions, Channels: cfg.MaxChannels, Resume: maxResume, Tombstones: maxTombstones,
		Watches: cfg.MaxWatches, Queue: cfg.WatchQueue, Grace: cfg.Grace,
		Ended: func(e holder.Ended) { s.metrics.ended.WithLabelValues(reasonOf(e.Reason)).Inc() },
	})
	return s, nil
}

// RegisterPublic registers PresenceService.
func (s *Service) RegisterPublic(r grpc.ServiceRegistrar) {
	presencev1.RegisterPresenceServiceServer(r, &queries{service: s, everywhere: true})
}

// RegisterNode registers what other nodes call: reports and records for edges,
// and PresenceService for other presence processes, of this one's shards alone.
func (s *Service) RegisterNode(r grpc.ServiceRegistrar) {
	edgev1.RegisterReportServiceServer(r, &reports{service: s})
	edgev1.RegisterRecordServiceServer(r, &records{service: s})
	presencev1.RegisterPresenceServiceServer(r, &queries{service: s})
}

// Ready says why the process should not get calls yet. Once it has heard of
// everything, calls themselves say when an edge is missing: an edge that joins
// must not take the service out of its balancer.
func (s *Service) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.whole {
		return nil
	}
	return s.wholeLocked()
}

// Run follows the directory and forgets lost sessions, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	views := s.deps.Directory.Watch(ctx)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case v, ok := <-views:
			if !ok {
				return nil
			}
			s.see(v, time.Now())
		case now := <-tick.C:
			s.do(func() { s.holder.Tick(now) })
		}
	}
}

// see takes what the directory says.
func (s *Service) see(v membership.View, now time.Time) {
	s.do(func() {
		s.seen, s.view = true, v
		var members []string
		for _, n := range v.With(membership.Edge) {
			members = append(members, n.Member())
		}
		held := map[shard.PresenceShard]holder.Held{}
		for p := range shard.PresenceShard(shard.PresenceShards) {
			if row := v.Presence.Holders(p); row.Has(s.self) {
				held[p] = holder.Held{Epoch: row.Epoch, First: row.First == s.self, Since: row.Since(s.self)}
			}
		}
		s.holder.SetEdges(members, now)
		s.holder.SetHeld(held)
		s.whole = s.whole || s.wholeLocked() == nil
	})
}

// do changes the holder, and lets those look again who wait for that.
func (s *Service) do(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// wholeLocked says why not everything has been heard, as callers are told.
func (s *Service) wholeLocked() error {
	missing, known := s.holder.Missing()
	switch {
	case !s.seen || !known:
		return notReady("presence does not know yet which edges there are; try again")
	case !s.view.Presence.Complete():
		return notReady("some shards of presence have no holder yet; try again")
	case len(missing) > 0:
		return notReady("presence has not heard all sessions of %d of %d edges yet; try again",
			len(missing), len(s.view.With(membership.Edge)))
	}
	return nil
}

func notReady(format string, args ...any) error {
	return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY, format, args...)
}

// tooMuch is the refusal of what is over a limit.
func tooMuch(err error) error {
	return rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "%v", err)
}

// nameOf is the name in a member, as people know the edge.
func nameOf(member string) string {
	name, _, _ := strings.Cut(member, "@")
	return name
}

// checkMember says what is wrong with the member an edge says it is.
func checkMember(member string) error {
	name, id, ok := strings.Cut(member, "@")
	if !ok || name == "" || id == "" {
		return fmt.Errorf("edge %q is no member: want name@id in the first batch", member)
	}
	return nil
}
