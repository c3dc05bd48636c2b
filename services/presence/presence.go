// Package presence knows every session of the cluster and what it subscribes
// to, and tells backends.
//
//  1. Every edge streams its sessions to every presence process, so each knows
//     all. Nothing is stored: one that starts is fed anew.
//  2. Nothing is answered, but NOT_READY, before the directory is known and
//     every edge in it has told of all its sessions. So an answer lacks no
//     session but the newest, of the time a report takes to arrive.
//  3. The sessions of an edge whose stream broke stay until the stream is back
//     and has named them again, for a grace at most, and not at all once the
//     directory does not list the edge.
//  4. A watch tells each change once, or ends with a reason; watch again then.
package presence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	"github.com/comet-push/comet/services/presence/internal/roster"
)

// sweepEvery is how often lost edges are looked at.
const sweepEvery = time.Second

// Config says what presence keeps. The zero value of a field is its default.
type Config struct {
	// Grace is how long the sessions of an edge stay after its stream broke.
	// Default 10 s.
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
		c.Grace = 10 * time.Second
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
	metrics *metrics

	mu      sync.Mutex
	roster  *roster.Roster
	reports map[string]context.CancelCauseFunc // ends an edge's stream, by member
	known   bool                               // the directory has answered
	whole   bool                               // has been, once
	edges   []string                           // members in the directory
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
	s := &Service{
		cfg: cfg, deps: deps, reports: make(map[string]context.CancelCauseFunc),
		roster: roster.New(roster.Limits{
			Sessions: cfg.MaxSessions, Channels: cfg.MaxChannels, Watches: cfg.MaxWatches, Queue: cfg.WatchQueue,
		}),
	}
	s.metrics = newMetrics(deps.Registerer, s)
	return s, nil
}

// RegisterPublic registers PresenceService.
func (s *Service) RegisterPublic(r grpc.ServiceRegistrar) {
	presencev1.RegisterPresenceServiceServer(r, &queries{service: s})
}

// RegisterNode registers ReportService.
func (s *Service) RegisterNode(r grpc.ServiceRegistrar) {
	edgev1.RegisterReportServiceServer(r, &reports{service: s})
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

// Run follows the directory and forgets lost edges, until ctx ends.
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
			s.sweep(now)
		}
	}
}

// see takes what the directory says of edges.
func (s *Service) see(v membership.View, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = true
	s.edges = s.edges[:0]
	for _, n := range v.With(membership.Edge) {
		s.edges = append(s.edges, n.Member())
	}
	s.sweepLocked(now)
}

func (s *Service) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked(now)
}

// sweepLocked forgets edges that are lost for good, and notes when everything
// has been heard for the first time.
func (s *Service) sweepLocked(now time.Time) {
	before := s.roster.Sessions()
	if lost := s.roster.Expire(now, s.cfg.Grace, s.announcedLocked); len(lost) > 0 {
		s.metrics.lost.Add(float64(len(lost)))
		s.deps.Logger.Info("edges lost", slog.Any("edges", lost), slog.Int("sessions", before-s.roster.Sessions()))
	}
	s.whole = s.whole || s.wholeLocked() == nil
}

// announcedLocked gives edges the benefit of the doubt before the directory is
// known.
func (s *Service) announcedLocked(member string) bool {
	return !s.known || slices.Contains(s.edges, member)
}

// wholeLocked says why not everything has been heard, as callers are told.
func (s *Service) wholeLocked() error {
	if !s.known {
		return notReady("presence does not know yet which edges there are; try again")
	}
	if missing := s.roster.Missing(s.edges); len(missing) > 0 {
		return notReady("presence has not heard all sessions of %d of %d edges yet; try again", len(missing), len(s.edges))
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
