// Package transport carries what the replicas of slots tell each other over
// one gRPC stream for each pair of brokers.
//
//  1. Two members have at most one stream, for all slots and both directions.
//     The one whose name@log-id sorts lower opens it, and again within about a
//     second when it has ended.
//  2. What a member sends on a stream arrives in order and without gaps up to
//     where the stream ends. The rest is lost with the stream. Pieces of
//     snapshots have an order of their own: one in a millisecond goes, behind
//     everything else that waits.
//  3. A Handler hears Up, what arrives, and Down of each stream, never two
//     things of one member at once. A newer stream replaces an older one: its
//     Up comes after Down of the other, of which nothing comes any more.
//  4. Send never blocks. What waits for a member is bounded in bytes; beyond
//     that the stream ends.
//  5. Heard(member, sent) comes after everything that the member sent before it
//     read a ping that was sent at that time, on the same stream. So what it
//     knew then, and tells when it learns it, was heard before (R14).
//  6. A stream on which nothing but pings came for three heartbeats ends. They
//     count only if this process was awake and not behind with what had come
//     (CORRECTNESS rule 15).
//  7. A stream ends with the first thing on it that is not as the protocol has
//     it: that is not handled, what came before was.
//  8. Why streams end is logged, and counted by [Reason].
package transport

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// The defaults of Config.
const (
	DefaultHeartbeat = time.Second
	// DefaultQueueBytes is what all slots may have under way to one member by
	// the default window of a replica, so that catching up ends no stream.
	DefaultQueueBytes = shard.Slots * (replica.DefaultWindow + replica.DefaultBatch)
)

// Config sets a Mesh up. The zero value of a field without further words is
// its default.
type Config struct {
	// Self is this member, name@log-id.
	Self string
	// Conns are connections to brokers, better not shared with other calls:
	// replication would wait behind them.
	Conns *rpc.Pool
	// Handler hears what comes.
	Handler Handler
	// Heartbeat is how often members are pinged.
	Heartbeat time.Duration
	// QueueBytes bounds what waits for one member, give or take one message.
	QueueBytes int
	// Registerer gets metrics; nil: none.
	Registerer prometheus.Registerer
	// Logger gets logs; nil: none.
	Logger *slog.Logger
}

// Handler hears of streams and what comes on them. Calls for one member come
// one at a time, those for different members at the same time. While a call
// runs nothing more is read from its member. It may call Send.
type Handler interface {
	// Up tells of a new stream to a member, and Down, once, that it has ended.
	Up(member string)
	Down(member string)
	// Receive hands a message over. It is the handler's.
	Receive(member string, slot shard.Slot, m replica.Message)
	// Heard tells that a member has answered a ping of the given time.
	Heard(member string, sent time.Time)
}

// Mesh is one member's streams to all others. Safe for concurrent use.
type Mesh struct {
	cfg     Config
	metrics *metrics

	mu      sync.RWMutex
	running context.Context    //nolint:containedctx // Run's: that of all streams; nil before and after it
	tasks   sync.WaitGroup     // of Run; grows only while running
	dialers map[string]*dialer // by member
	streams map[string]*stream // by member: the newest, which may wait for an older one to end
	number  uint64             // of the newest stream that was opened here
}

// New returns a mesh without streams.
func New(cfg Config) (*Mesh, error) {
	switch {
	case !validMember(cfg.Self):
		return nil, errors.New("a mesh needs the member it is for, as name@log-id")
	case cfg.Conns == nil || cfg.Handler == nil:
		return nil, errors.New("a mesh needs connections and a handler")
	}
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, DefaultHeartbeat)
	cfg.QueueBytes = cmp.Or(cfg.QueueBytes, DefaultQueueBytes)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	m := &Mesh{cfg: cfg, dialers: map[string]*dialer{}, streams: map[string]*stream{}}
	m.metrics = newMetrics(cfg.Registerer, m)
	return m, nil
}

// Run keeps streams until ctx ends. When it has returned Down was told of all
// of them, and the handler is not called any more.
func (m *Mesh) Run(ctx context.Context) error {
	m.begin(ctx)
	defer m.finish()
	beat := time.NewTicker(m.cfg.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			m.beat()
		}
	}
}

func (m *Mesh) begin(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = ctx
	for _, d := range m.dialers {
		m.startLocked(ctx, d)
	}
}

// finish waits for the streams, which end with the context of begin.
func (m *Mesh) finish() {
	m.mu.Lock()
	m.running = nil
	m.mu.Unlock()
	m.tasks.Wait()
}

func (m *Mesh) beat() {
	for _, s := range m.all() {
		s.beat()
	}
}

// waiting is how many bytes wait to be sent.
func (m *Mesh) waiting() int {
	bytes := 0
	for _, s := range m.all() {
		bytes += s.out.waiting()
	}
	return bytes
}

func (m *Mesh) all() []*stream {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Collect(maps.Values(m.streams))
}

// Send tells a member something about a slot. It is lost if there is no
// stream to the member, or with the stream. What the message refers to must not
// change any more.
func (m *Mesh) Send(member string, slot shard.Slot, msg replica.Message) {
	m.mu.RLock()
	s := m.streams[member]
	m.mu.RUnlock()
	if s != nil {
		s.send(slot, msg)
	}
}

// Probe pings all members that are not being pinged already. It never blocks.
func (m *Mesh) Probe() {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, s := range m.streams {
		s.out.probe()
	}
}

// Peers says with whom there should be streams, and their addresses; those
// that are to open theirs, and this member, are passed over. A stream to a
// member that is not named any more stays while it lives.
func (m *Mesh) Peers(nodes []membership.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.dialers {
		d.wanted = false
	}
	for _, n := range nodes {
		if member := n.Member(); member > m.cfg.Self && n.Addr != "" {
			m.wantLocked(member, n.Addr)
		}
	}
	for member, d := range m.dialers {
		if !d.wanted && m.streams[member] == nil {
			m.dropLocked(d)
		}
	}
}
