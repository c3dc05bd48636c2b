package upstream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
)

// PublisherConfig configures a Publisher. Directory and Conns are required.
type PublisherConfig struct {
	// Node is this process as name@id.
	Node string
	// Directory says who owns the slots.
	Directory membership.Directory
	// Conns reaches their owners.
	Conns *rpc.Pool
	// Own, if set, calls the broker that this process is, without a connection.
	// The call ends with the context.
	Own func(ctx context.Context) AppendCall
	// Timeout is how long a publish may take; 0: 8 s.
	Timeout time.Duration
	// MaxPending is how many bytes may wait in one slot; 0: 8 MiB. One message
	// may, whatever its size.
	MaxPending int
	// MaxCount is how many publishes may wait in one slot; 0: 8192.
	MaxCount int
	// Registerer takes the metrics; nil: none are kept.
	Registerer prometheus.Registerer
	// Logger; nil: slog.Default().
	Logger *slog.Logger
}

// Publication is one message to publish. Its slices must not change until it
// was answered.
type Publication struct {
	// Channel is a literal channel.
	Channel string
	// Data is one JSON value.
	Data []byte
	// Ext is a JSON object, or nothing.
	Ext []byte
	// Members are further members, `"name":value` joined by commas.
	Members []byte
	// Session and ID name the publisher; only on /service channels.
	Session, ID string
	// Key is the idempotency key; one is made where there is none.
	Key string
}

// Ack says where a publication stands.
type Ack struct {
	// Position is its offset.
	Position uint64
	// Duplicate: the key was known, nothing was appended.
	Duplicate bool
}

// Publisher publishes to the owners of slots. Safe for concurrent use.
type Publisher struct {
	cfg     PublisherConfig
	logger  *slog.Logger
	metrics metrics
	alarm   *time.Timer
	streams sync.WaitGroup

	mu      sync.Mutex
	table   *shard.Table
	lanes   [shard.Slots]lane
	targets map[string]*appendStream      // live streams, by member
	next    time.Time                     // when alarm goes off; zero: never
	open    func(shard.Row) *appendStream // nil before Run
	ended   error                         // set when Run ended: the answer to everything
}

// NewPublisher returns a Publisher. Publications wait for Run.
func NewPublisher(cfg PublisherConfig) *Publisher {
	if cfg.Timeout == 0 {
		cfg.Timeout = 8 * time.Second
	}
	if cfg.MaxPending == 0 {
		cfg.MaxPending = 8 << 20
	}
	if cfg.MaxCount == 0 {
		cfg.MaxCount = 8192
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	p := &Publisher{
		cfg:     cfg,
		logger:  cfg.Logger,
		metrics: newMetrics(cfg.Registerer),
		targets: map[string]*appendStream{},
	}
	for s := range p.lanes {
		p.lanes[s].slot = shard.Slot(s)
	}
	return p
}

// Publish queues a publication and never blocks. done is called once: with
// where it stands, or with a status error that carries its reason. It is
// called inline when refused at once, else from another goroutine, and must
// not block.
func (p *Publisher) Publish(m Publication, done func(Ack, error)) {
	if err := p.accept(newPending(m, done)); err != nil {
		done(Ack{}, err)
	}
}

func (p *Publisher) accept(x *pending) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now() // under the lock: deadlines are in queue order
	if p.ended != nil {
		return p.ended
	}
	l := &p.lanes[x.slot]
	if l.count >= p.cfg.MaxCount || l.count > 0 && l.bytes+x.size > p.cfg.MaxPending {
		return rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_BUSY,
			"%d publishes wait for the owner of slot %d; try again later", l.count, l.slot)
	}
	x.deadline = now.Add(p.cfg.Timeout)
	p.alarmLocked(x.deadline)
	l.push(x)
	p.advanceLocked(l, now)
	return nil
}

// Run sends publications until ctx ends; then all that are unanswered, and all
// later ones, are answered UNAVAILABLE, with reason DRAINING where that is the
// cause. It runs once.
func (p *Publisher) Run(ctx context.Context) error {
	streaming, stop := context.WithCancel(ctx)
	defer p.streams.Wait()
	defer stop()
	views := p.cfg.Directory.Watch(streaming)
	alarm := p.begin(streaming)
	defer alarm.Stop()
	for {
		select {
		case <-ctx.Done():
			p.end(context.Cause(ctx))
			return nil
		case v, ok := <-views:
			if !ok {
				views = nil
				continue
			}
			p.see(v, time.Now())
		case now := <-alarm.C:
			giveUp(p.sweep(now))
		}
	}
}

func (p *Publisher) begin(ctx context.Context) *time.Timer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = func(r shard.Row) *appendStream { return p.dialLocked(ctx, r) }
	p.alarm = time.NewTimer(p.cfg.Timeout)
	p.next = time.Now().Add(p.cfg.Timeout)
	return p.alarm
}

func (p *Publisher) end(cause error) {
	reason := channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE
	if errors.Is(cause, run.ErrDraining) {
		reason = channelv1.ErrorReason_ERROR_REASON_DRAINING
	}
	err := rpc.Error(codes.Unavailable, reason, "this process is shutting down; publish again, with the same key, elsewhere")
	p.mu.Lock()
	p.ended = err
	var left []*pending
	for s := range p.lanes {
		left = p.lanes[s].takeAll(left)
	}
	p.mu.Unlock()
	answer(left, err)
}

// see follows a new view.
func (p *Publisher) see(v membership.View, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table = v.Table
	used := map[*appendStream]bool{}
	for s := range p.lanes {
		l := &p.lanes[s]
		if l.stream != nil && !sameLog(p.table.Row(l.slot), l.row) {
			l.stop()
		}
		p.advanceLocked(l, now)
		if l.stream != nil {
			used[l.stream] = true
		}
	}
	for member, st := range p.targets {
		if !used[st] && len(v.Table.Owned(member)) == 0 {
			st.cancel()
		}
	}
}

// advanceLocked sends what a lane may send now.
func (p *Publisher) advanceLocked(l *lane, now time.Time) {
	if l.head == nil || l.stream == nil && !p.startLocked(l, now) {
		return
	}
	for x := l.unsent; x != nil; x = x.next {
		if !x.answered {
			l.stream.sendLocked(x, l.row.Version)
		}
	}
	l.unsent = nil
}

// startLocked gives a stopped lane a stream, if it may have one, and makes it
// send everything unanswered again.
func (p *Publisher) startLocked(l *lane, now time.Time) bool {
	r := p.table.Row(l.slot)
	if p.open == nil || p.ended != nil || r.Addr == "" {
		return false
	}
	if r.Version == l.row.Version && now.Before(l.retryAt) {
		p.alarmLocked(l.retryAt)
		return false
	}
	st := p.targets[r.Primary]
	if st == nil {
		st = p.open(r)
	}
	if st.flying[l.slot] > 0 {
		return false // what it was sent before is answered first
	}
	l.stream, l.row = st, r
	p.metrics.resent.Add(float64(l.rewind()))
	return true
}

// alarmLocked sees to it that sweep runs at t, or earlier.
func (p *Publisher) alarmLocked(t time.Time) {
	if p.alarm == nil || !p.next.IsZero() && !t.Before(p.next) {
		return
	}
	p.next = t
	p.alarm.Reset(time.Until(t))
}

// sweep returns what nobody waits for any longer, starts lanes again, and sets
// the next alarm.
func (p *Publisher) sweep(now time.Time) []*pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = time.Time{}
	var expired []*pending
	for s := range p.lanes {
		l := &p.lanes[s]
		expired = l.takeExpired(now, expired)
		p.advanceLocked(l, now)
		if l.head != nil {
			p.alarmLocked(l.head.deadline)
		}
	}
	return expired
}

// giveUp answers what nobody waits for any longer.
func giveUp(all []*pending) {
	if len(all) == 0 {
		return
	}
	answer(all, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
		"the owner of the channel did not answer in time; it may have been published, so try again with the same key"))
}

// answer gives all the same error.
func answer(all []*pending, err error) {
	for _, x := range all {
		x.done(Ack{}, err)
	}
}
