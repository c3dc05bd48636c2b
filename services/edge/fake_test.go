package edge

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
)

// fakeBroker is all brokers in one: every slot's log, and what the edge joined.
// Like the real follower it calls the sink from one goroutine, its Run.
type fakeBroker struct {
	sink upstream.Sink
	work chan func()

	mu     sync.Mutex
	logs   map[shard.Slot][]*brokerv1.Entry
	keys   map[string]uint64 // idempotency keys
	joined map[string]bool
	joins  int
	reads  int
	down   bool // joins are not answered, publishes and reads fail

	delay         time.Duration // of reads
	reading, most int           // reads at once, now and ever
}

func newFakeBroker() *fakeBroker {
	return &fakeBroker{work: make(chan func(), 1<<16), logs: map[shard.Slot][]*brokerv1.Entry{}, keys: map[string]uint64{}, joined: map[string]bool{}}
}

func (b *fakeBroker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case do := <-b.work:
			do()
		}
	}
}

func (b *fakeBroker) set(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

func (b *fakeBroker) Join(channel string) {
	b.work <- func() {
		b.mu.Lock()
		b.joins++
		down := b.down
		b.joined[channel] = !down
		var from []shard.Position
		for s := range shard.Slot(shard.Slots) {
			if bayeux.IsPattern(channel) || s == shard.Of(channel) {
				from = append(from, shard.Position{Slot: s, Offset: uint64(len(b.logs[s]))})
			}
		}
		b.mu.Unlock()
		if !down {
			b.sink.Joined(channel, from)
		}
	}
}

func (b *fakeBroker) Leave(channel string) {
	b.work <- func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.joined, channel)
	}
}

func (b *fakeBroker) Publish(m upstream.Publication, done func(upstream.Ack, error)) {
	b.work <- func() {
		b.mu.Lock()
		if b.down {
			b.mu.Unlock()
			done(upstream.Ack{}, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "down"))
			return
		}
		slot := shard.Of(m.Channel)
		if known, ok := b.keys[m.Key]; ok && m.Key != "" {
			b.mu.Unlock()
			done(upstream.Ack{Position: known, Duplicate: true}, nil)
			return
		}
		e := &brokerv1.Entry{
			Offset: uint64(len(b.logs[slot]) + 1), Channel: m.Channel, Data: m.Data, Ext: m.Ext, Members: m.Members,
			Session: m.Session, Id: m.ID, TimeMs: time.Now().UnixMilli(),
		}
		b.logs[slot] = append(b.logs[slot], e)
		b.keys[m.Key] = e.GetOffset()
		wanted := false
		for name, joined := range b.joined {
			wanted = wanted || joined && bayeux.Match(name, m.Channel)
		}
		b.mu.Unlock()
		done(upstream.Ack{Position: e.GetOffset()}, nil)
		if wanted {
			b.sink.Entries(slot, []*brokerv1.Entry{e})
		} else {
			b.sink.Through(shard.Position{Slot: slot, Offset: e.GetOffset()})
		}
	}
}

// publish publishes as a backend does.
func (b *fakeBroker) publish(channel, data string) {
	b.Publish(upstream.Publication{Channel: channel, Data: []byte(data)}, func(upstream.Ack, error) {})
}

// ReadAtLeast returns pages of at most 10 entries. What was published is
// committed.
func (b *fakeBroker) ReadAtLeast(_ context.Context, req *brokerv1.ReadRequest, _ uint64) (*brokerv1.ReadResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	b.reading++
	b.most = max(b.most, b.reading)
	b.mu.Unlock()
	time.Sleep(b.delay)
	b.mu.Lock()
	b.reading--
	if b.down {
		return nil, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "down")
	}
	slot, channels := shard.Slot(req.GetSlot()), req.GetChannels()
	log := b.logs[slot]
	resp := &brokerv1.ReadResponse{Through: uint64(len(log))}
	if req.GetSince() > resp.GetThrough() {
		resp.Lost = true
		return resp, nil
	}
	for _, e := range log {
		matches := slices.ContainsFunc(channels, func(name string) bool { return bayeux.Match(name, e.GetChannel()) })
		if !matches || e.GetOffset() <= req.GetSince() {
			continue
		}
		if len(resp.GetEntries()) == min(int(req.GetLimit()), 10) {
			resp.Through = resp.GetEntries()[len(resp.GetEntries())-1].GetOffset()
			break
		}
		resp.Entries = append(resp.Entries, e)
	}
	return resp, nil
}
