// Package presence knows every session of the cluster, where it is and what it
// subscribes to, and tells edges and backends.
//
//  1. Records of sessions are spread over shards, of which the directory's rows
//     name two holders each. Every edge streams its sessions to both. Nothing is
//     stored: a holder that starts is fed anew.
//  2. The first holder of a shard says where its sessions are, and lets edges
//     claim them (package holder says how). Until every edge of the directory has
//     told it of all its sessions of the shard it waits, and then says NOT_READY.
//  3. Any presence process answers backends: it asks the first holders of all
//     shards. NOT_READY if one of them is not, or cannot be asked. So an answer
//     lacks no session but the newest, of the time a report takes to arrive.
//  4. The sessions of an edge that the directory does not list any more can be
//     adopted for a grace at least, and leave then, if no other edge has.
//  5. Of a channel is told what its namespace says: members, their count, nothing.
//  6. A watch tells each change once, or ends with a reason, also when shards
//     move to other holders; watch again then. Edges follow rosters instead: they
//     are told what has come of all changes of a quarter of a second.
//  7. What becomes of sessions, that they end or leave a channel, the first
//     holder publishes to channels of its own (package outbox says when): at
//     least once, while one of the two holders lives that heard of it. There
//     anybody can read it who has a position, and the webhook is told of it.
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

// Config says what presence keeps. The zero value of a field is its default.
type Config struct {
	// Grace is how long the sessions of an edge that was lost stay at least.
	// Default 60 s.
	Grace time.Duration
	// MaxSessions bounds the sessions of the shards that are held. Default
	// 2,000,000.
	MaxSessions int
	// MaxChannels bounds the channels of one session. Default 10,000.
	MaxChannels int
	// MaxTombstones bounds the ends of sessions that are remembered. Default
	// 500,000.
	MaxTombstones int
	// MaxWatches bounds the watches of all channels. Default 10,000.
	MaxWatches int
	// WatchQueue is how many changes may wait for one watch before it is ended
	// as too slow. Default 1,000.
	WatchQueue int
	// NoEvents leaves out what becomes of sessions: it is neither published nor
	// can it be watched.
	NoEvents bool
	// MaxEvents bounds the events that are not known to be published. Default
	// 250,000.
	MaxEvents int
	// Webhook is sent events, too; nothing unless it is set.
	Webhook Webhook
	// BrokerHeartbeat is how often brokers say how far they are; 1 s.
	BrokerHeartbeat time.Duration
}

func (c Config) withDefaults() Config {
	if c.Grace == 0 {
		c.Grace = time.Minute
	}
	for _, d := range []struct {
		limit *int
		value int
	}{
		{&c.MaxSessions, 2_000_000},
		{&c.MaxChannels, 10_000},
		{&c.MaxTombstones, 500_000},
		{&c.MaxWatches, 10_000},
		{&c.WatchQueue, 1_000},
		{&c.MaxEvents, 250_000},
	} {
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
	events  *events // nil: there are none

	mu     sync.Mutex
	holder *holder.Holder
	view   *membership.View // nil: the directory has not answered
	news   chan struct{}    // closed when what is known has changed
	whole  bool             // has been, once
}

// New returns a presence that does nothing yet.
func New(cfg Config, deps Deps) (*Service, error) {
	if deps.Directory == nil || deps.Namespaces == nil {
		return nil, errors.New("presence needs a directory and namespaces")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Registerer == nil {
		deps.Registerer = prometheus.NewRegistry()
	}
	cfg = cfg.withDefaults()
	s := &Service{cfg: cfg, deps: deps, news: make(chan struct{})}
	records := holder.Config{
		Sessions: cfg.MaxSessions, Channels: cfg.MaxChannels, Resume: maxResume, Tombstones: cfg.MaxTombstones,
		Watches: cfg.MaxWatches, Queue: cfg.WatchQueue, Grace: cfg.Grace,
		Leave: deps.Namespaces.PresenceGrace,
		Ended: func(e holder.Ended) { s.metrics.end(e.Reason) },
	}
	if !cfg.NoEvents {
		var err error
		if s.events, err = newEvents(cfg, deps); err != nil {
			return nil, err
		}
		records.Ended = func(e holder.Ended) { s.metrics.end(e.Reason); s.events.ended(e) }
		records.Left, records.Again = s.events.left, s.events.again
	}
	s.holder = holder.New(records)
	s.metrics = newMetrics(deps.Registerer, s)
	return s, nil
}

// maxResume bounds what is kept of one session for whoever adopts it.
const maxResume = 64 << 10

// RegisterPublic registers PresenceService.
func (s *Service) RegisterPublic(r grpc.ServiceRegistrar) {
	presencev1.RegisterPresenceServiceServer(r, &queries{service: s})
}

// RegisterNode registers ReportService, RecordService, HolderService and
// RosterService.
func (s *Service) RegisterNode(r grpc.ServiceRegistrar) {
	edgev1.RegisterReportServiceServer(r, &reports{service: s})
	edgev1.RegisterRecordServiceServer(r, &records{service: s})
	edgev1.RegisterHolderServiceServer(r, &parts{service: s})
	edgev1.RegisterRosterServiceServer(r, &rosters{service: s})
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
	return s.readyLocked()
}

// readyLocked says why the process has not heard of everything yet.
func (s *Service) readyLocked() error {
	if s.view != nil && !s.view.Presence.Complete() {
		return notReady("not every shard of presence has a holder yet; try again")
	}
	return s.wholeLocked()
}

// Run follows the directory, forgets lost sessions, and publishes events, until
// ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var events sync.WaitGroup
	defer events.Wait()
	if s.events != nil {
		events.Go(func() { _ = s.events.Run(ctx) }) // it never fails
	}
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

// see takes what the directory says of edges and of who holds what.
func (s *Service) see(v membership.View, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var edges []string
	for _, n := range v.With(membership.Edge) {
		edges = append(edges, n.Member())
	}
	held, self := map[shard.PresenceShard]holder.Held{}, s.deps.Node.Member()
	for n := range shard.PresenceShard(shard.PresenceShards) {
		if row := v.Presence.Holders(n); row.Has(self) {
			held[n] = holder.Held{Epoch: row.Epoch, First: row.First == self, Since: row.Since(self)}
		}
	}
	s.holder.SetHeld(held)
	s.holder.SetEdges(edges, now)
	if s.events != nil {
		s.events.setFirst(s.holder.First())
	}
	s.view = &v
	s.changedLocked()
}

// changedLocked wakes those who wait until they can be answered.
func (s *Service) changedLocked() {
	s.whole = s.whole || s.readyLocked() == nil
	close(s.news)
	s.news = make(chan struct{})
}

func (s *Service) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.holder.Sessions()
	s.holder.Tick(now)
	if gone := before - s.holder.Sessions(); gone > 0 {
		s.deps.Logger.Info("lost sessions are gone", slog.Int("sessions", gone))
	}
}

// wholeLocked says why not everything has been heard of which this process is
// the first holder, as callers are told.
func (s *Service) wholeLocked() error {
	missing, known := s.holder.Missing()
	if !known {
		return notReady("presence does not know yet which edges there are; try again")
	}
	if len(missing) > 0 {
		return notReady("presence has not heard all sessions of %d edges yet; try again", len(missing))
	}
	return nil
}

// wait does something again and again, whenever what is known has changed, until
// it is done, or ctx ends, or its patience does. It returns what it did last.
func (s *Service) wait(ctx context.Context, patience time.Duration, try func() (done bool, err error)) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s.mu.Lock()
		done, err := try()
		news := s.news
		s.mu.Unlock()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return err
		case <-news:
		}
	}
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
