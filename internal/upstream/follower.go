package upstream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// FollowerConfig configures a Follower. Directory and Conns are required.
type FollowerConfig struct {
	// Node is this process as name@id, for logs.
	Node string
	// Directory says who owns the slots.
	Directory membership.Directory
	// Conns reaches their owners.
	Conns *rpc.Pool
	// Credit is how many bytes of entries one broker may send ahead; 0: 1 MiB.
	Credit int
	// Heartbeat is how often brokers send marks; 0: 1 s. A stream without
	// marks for three of them is dropped.
	Heartbeat time.Duration
	// Copies lets slots be followed at members in sync other than the primary,
	// of Zone if there are such; nodes spread over them.
	Copies bool
	// Zone is where this node is, or empty.
	Zone string
	// Slots are the slots to follow; nil: all. Literals must be of these.
	Slots []shard.Slot
	// Since says where to begin in a slot; without, at its end.
	Since map[shard.Slot]uint64
	// Earliest begins each slot with everything retained after Since, or at
	// all, without a resync where something older is gone.
	Earliest bool
	// Registerer takes the metrics; nil: none are kept. Followers may share it.
	Registerer prometheus.Registerer
	// Logger; nil: slog.Default().
	Logger *slog.Logger
}

// Follower follows slots for a Sink. Safe for concurrent use.
type Follower struct {
	cfg     FollowerConfig
	sink    Sink
	metrics metrics

	wished chan struct{} // holds one token while there are wishes

	mu     sync.Mutex
	wishes map[string]wish // guarded by mu
}

// wish is what the callers of Join and Leave want of a channel.
type wish struct {
	join bool
	left bool // Leave was called since the last time
}

// NewFollower returns a Follower that hands over to sink while it runs.
func NewFollower(cfg FollowerConfig, sink Sink) *Follower {
	if cfg.Credit == 0 {
		cfg.Credit = 1 << 20
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Follower{
		cfg: cfg, sink: sink, metrics: newMetrics(cfg.Registerer),
		wished: make(chan struct{}, 1), wishes: map[string]wish{},
	}
}

// Join asks for a literal channel or pattern; Joined will answer. It never
// blocks, and does nothing where the channel is joined already. With Since or
// Earliest, channels joined before Run get everything after that, whatever
// Joined says.
func (f *Follower) Join(channel string) { f.wish(channel, true) }

// Leave ends what Join began. It never blocks. Entries, and Joined, may be on
// their way and still come. If Join is called again before that has happened,
// what comes holds for it, and it may be answered twice.
func (f *Follower) Leave(channel string) { f.wish(channel, false) }

func (f *Follower) wish(channel string, join bool) {
	f.mu.Lock()
	f.wishes[channel] = wish{join: join, left: !join || f.wishes[channel].left}
	f.mu.Unlock()
	select {
	case f.wished <- struct{}{}:
	default:
	}
}

func (f *Follower) takeWishes() map[string]wish {
	f.mu.Lock()
	defer f.mu.Unlock()
	wishes := f.wishes
	f.wishes = map[string]wish{}
	return wishes
}

// Run follows until ctx ends. It runs once. All calls of the sink come from it.
func (f *Follower) Run(ctx context.Context) error {
	streaming, stop := context.WithCancel(ctx)
	l := newLoop(streaming, f)
	defer l.streams.Wait()
	defer stop()

	views := f.cfg.Directory.Watch(streaming)
	// Silence is counted in ticks: a loop that was held up hears what came
	// meanwhile before it counts more than one (CORRECTNESS rule 15).
	tick := time.NewTicker(f.cfg.Heartbeat)
	defer tick.Stop()
	defer l.alarm.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case v, ok := <-views:
			if !ok {
				views = nil
				continue
			}
			l.see(v)
		case <-f.wished:
			l.grant(f.takeWishes())
		case e := <-l.events:
			l.handle(e)
		case <-tick.C:
			l.listen()
		case now := <-l.alarm.C:
			l.again(now)
		}
		l.flush()
	}
}
