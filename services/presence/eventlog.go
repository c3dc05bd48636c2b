package presence

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
	"github.com/comet-push/comet/services/presence/internal/outbox"
)

const (
	// eventPage is how many events are read at a time.
	eventPage = 100
	// eventIdle is after how long a reader to whom nothing came looks again, so
	// that its position moves.
	eventIdle = 10 * time.Second
)

// eventLog is the channels of events as this process reads them: one follower
// hears what is new, for the outbox and as a hint for those who read; pages are
// read at the primaries. It is the follower's sink.
type eventLog struct {
	reader   *upstream.Reader
	follower *upstream.Follower
	seen     func(*outbox.Event)
	logger   *slog.Logger
	channels map[string]outbox.Channel
	slots    map[shard.Slot][]outbox.Channel

	mu    sync.Mutex // leaf
	heads [outbox.Channels]eventHead
}

// eventHead is how far a channel was followed.
type eventHead struct {
	through uint64        // everything up to here was seen
	last    uint64        // the newest entry's offset
	at      time.Time     // and its time
	moved   chan struct{} // closed when one of them has
}

func newEventLog(cfg Config, deps Deps, reader *upstream.Reader, seen func(*outbox.Event)) *eventLog {
	l := &eventLog{
		reader: reader, seen: seen, logger: deps.Logger,
		channels: map[string]outbox.Channel{}, slots: map[shard.Slot][]outbox.Channel{},
	}
	var names []string
	for c := range outbox.Channel(outbox.Channels) {
		name := c.Name(namespace.PresenceEvents)
		at := shard.Of(name)
		l.channels[name], l.slots[at] = c, append(l.slots[at], c)
		l.heads[c].moved = make(chan struct{})
		names = append(names, name)
	}
	l.follower = upstream.NewFollower(upstream.FollowerConfig{
		Node: deps.Node.Member(), Directory: deps.Directory, Conns: deps.Conns, Heartbeat: cfg.BrokerHeartbeat,
		Slots: shard.SlotsOf(names), Earliest: true, Registerer: deps.Registerer, Logger: deps.Logger,
	}, l)
	for _, name := range names {
		l.follower.Join(name)
	}
	return l
}

// Entries implements [upstream.Sink].
func (l *eventLog) Entries(_ shard.Slot, entries []*brokerv1.Entry) {
	for _, entry := range entries {
		c, ours := l.channels[entry.GetChannel()]
		if !ours {
			continue
		}
		if x := l.parse(entry); x != nil {
			l.seen(x)
		}
		l.move(c, eventHead{through: entry.GetOffset(), last: entry.GetOffset(), at: time.UnixMilli(entry.GetTimeMs())})
	}
}

// parse reads an entry; nil is a mark, or what nobody can read.
func (l *eventLog) parse(entry *brokerv1.Entry) *outbox.Event {
	if string(entry.GetData()) == outbox.Mark {
		return nil
	}
	x, err := outbox.Parse(entry.GetData())
	if err != nil {
		l.logger.Error("an event of a session cannot be read", slog.String("channel", entry.GetChannel()),
			slog.Uint64("position", entry.GetOffset()), slog.Any("err", err))
	}
	return x
}

// Through implements [upstream.Sink].
func (l *eventLog) Through(at shard.Position) {
	for _, c := range l.slots[at.Slot] {
		l.move(c, eventHead{through: at.Offset})
	}
}

// Resync implements [upstream.Sink]. What is lost is not seen, and may be
// published again.
func (l *eventLog) Resync(at shard.Position, _ []string) { l.Through(at) }

// Joined implements [upstream.Sink].
func (l *eventLog) Joined(string, []shard.Position) {}

func (l *eventLog) move(c outbox.Channel, to eventHead) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.heads[c]
	if to.last <= h.last && to.through <= h.through {
		return
	}
	if to.last > h.last {
		h.last, h.at = to.last, to.at
	}
	h.through = max(h.through, to.through)
	close(h.moved)
	h.moved = make(chan struct{})
}

func (l *eventLog) head(c outbox.Channel) eventHead {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heads[c]
}

// catchUp waits until everything was seen that a channel holds now.
func (l *eventLog) catchUp(ctx context.Context, c outbox.Channel) error {
	end, err := l.end(ctx, c)
	if err != nil {
		return err
	}
	for {
		h := l.head(c)
		if h.through >= end {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-h.moved:
		}
	}
}

// end returns the position of what a channel holds now.
func (l *eventLog) end(ctx context.Context, c outbox.Channel) (uint64, error) {
	page, err := l.reader.Read(ctx, &brokerv1.ReadRequest{Channel: c.Name(namespace.PresenceEvents), Limit: 1, Reverse: true})
	return page.GetThrough(), err
}

// read reads a page of a channel after a position; 0: the first that is
// retained. What is lost is an error of reason HISTORY_LOST.
func (l *eventLog) read(ctx context.Context, c outbox.Channel, after uint64, limit uint32) (*brokerv1.ReadResponse, error) {
	req := &brokerv1.ReadRequest{Channel: c.Name(namespace.PresenceEvents), Limit: limit}
	if after > 0 {
		req.Since = &after
	}
	page, err := l.reader.Read(ctx, req)
	if err == nil && page.GetLost() {
		return nil, l.lost(ctx, c)
	}
	return page, err
}

// lost says what is left of a channel.
func (l *eventLog) lost(ctx context.Context, c outbox.Channel) error {
	left := "nothing is left"
	page, err := l.reader.Read(ctx, &brokerv1.ReadRequest{Channel: c.Name(namespace.PresenceEvents), Limit: 1})
	switch {
	case err != nil:
		left = "what is left is not known"
	case len(page.GetEntries()) > 0:
		left = "what is left begins at " + time.UnixMilli(page.GetEntries()[0].GetTimeMs()).UTC().Format(time.RFC3339)
	}
	return rpc.Error(codes.OutOfRange, channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST,
		"events after this position are no longer retained in part %d of %d: %s; watch after earliest to go on with all that is left",
		c, outbox.Channels, left)
}

// wait waits until a channel has an event after a position, or for as long as a
// reader waits who hears of none. Ready, if not nil, ends it, too.
func (l *eventLog) wait(ctx context.Context, c outbox.Channel, after uint64, most time.Duration, ready <-chan struct{}) {
	over := time.NewTimer(most)
	defer over.Stop()
	for {
		h := l.head(c)
		if h.last > after {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-ready:
			return
		case <-h.moved:
		}
	}
}
