package hub_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/hub"
)

// plainReader reads history up to where its subscription begins, and takes
// deliveries from there.
type plainReader struct {
	hub     *hub.Hub[*plainReader]
	log     *sharedLog
	channel string
	settled chan struct{}

	mu    sync.Mutex
	from  map[shard.Slot]uint64
	got   []*event.Event
	loses bool
}

func (r *plainReader) Deliver(_ string, e *event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, e)
}

func (r *plainReader) Resync(string, shard.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loses = true
}

func (r *plainReader) Subscribed(_ uint64, from []shard.Position, _ *bayeux.Error) {
	r.begin(from)
}

func (r *plainReader) begin(from []shard.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range from {
		r.from[at.Slot] = at.Offset
	}
}

func (r *plainReader) Settle() { close(r.settled) }

// check compares what the reader has had of a slot with what was committed
// after a position it had already; Handed says up to where.
func (r *plainReader) check(slot shard.Slot, since uint64) error {
	upto := max(r.hub.Handed(slot), r.from[slot]) // read before what was got
	r.mu.Lock()
	got, loses := r.got, r.loses
	r.mu.Unlock()
	if loses {
		return nil
	}
	had := r.log.read(r.channel, slot, since, r.from[slot])
	for _, e := range got {
		if e.At.Slot == slot && e.At.Offset > r.from[slot] && e.At.Offset <= upto {
			had = append(had, e.At.Offset)
		}
	}
	if want := r.log.read(r.channel, slot, since, upto); !slices.Equal(had, want) {
		return fmt.Errorf("%s in slot %d from %d through %d: had %v, want %v", r.channel, slot, r.from[slot], upto, had, want)
	}
	return nil
}

// replay compares a ring with what was committed.
func (r *plainReader) replay(since uint64) error {
	slot := shard.Of(r.channel)
	events, through, ok := r.hub.Replay(r.channel, since, 1000)
	if !ok {
		return nil
	}
	var had []uint64
	for _, e := range events {
		had = append(had, e.At.Offset)
	}
	if want := r.log.read(r.channel, slot, since, through); !slices.Equal(had, want) {
		return fmt.Errorf("ring of %s in (%d, %d]: %v, want %v", r.channel, since, through, had, want)
	}
	return nil
}

// sharedLog is what brokers have committed.
type sharedLog struct {
	mu      sync.Mutex
	entries map[shard.Slot][]*event.Event
}

func (l *sharedLog) commit(channel string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slot := shard.Of(channel)
	l.entries[slot] = append(l.entries[slot], entry(channel, uint64(len(l.entries[slot])+1)))
}

func (l *sharedLog) after(slot shard.Slot, offset uint64) []*event.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries[slot][offset:])
}

// read returns the offsets of what matches in (since, through].
func (l *sharedLog) read(name string, slot shard.Slot, since, through uint64) (offsets []uint64) {
	for _, e := range l.after(slot, since) {
		if e.At.Offset <= through && bayeux.Match(name, e.Channel) {
			offsets = append(offsets, e.At.Offset)
		}
	}
	return offsets
}

// feeder is upstream: one goroutine.
type feeder struct {
	hub      *hub.Hub[*plainReader]
	log      *sharedLog
	channels []string
	random   *rand.Rand
	fed      map[shard.Slot]uint64
	joining  []string
	now      time.Time
}

func (f *feeder) step() {
	for range f.random.IntN(4) {
		f.log.commit(f.channels[f.random.IntN(len(f.channels))])
	}
	channel := f.channels[f.random.IntN(len(f.channels))]
	slot := shard.Of(channel)
	switch f.random.IntN(12) {
	case 0:
		f.hub.Through(shard.Position{Slot: slot, Offset: f.fed[slot]})
	case 1:
		f.feed(slot, channel)
	case 2:
		f.now = f.now.Add(time.Second)
		f.hub.Sweep(f.now)
	default:
		f.feed(slot, "")
	}
	for _, name := range f.joining {
		f.hub.Joined(name, f.positions(name))
	}
	f.joining = nil
	f.hub.Changes(func(c hub.Change) {
		if c.Join {
			f.joining = append(f.joining, c.Channel)
		}
	})
}

// feed hands over what is committed, but for one channel, which is lost.
func (f *feeder) feed(slot shard.Slot, lost string) {
	entries := f.log.after(slot, f.fed[slot])
	if lost != "" {
		at := shard.Position{Slot: slot, Offset: f.fed[slot]}
		f.hub.Resync(at, []string{lost, "/r/*", "/**"})
	}
	for _, e := range entries {
		f.fed[slot] = e.At.Offset
		if e.Channel != lost {
			f.hub.Entry(e)
		}
		if f.random.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
	if lost != "" {
		f.hub.Through(shard.Position{Slot: slot, Offset: f.fed[slot]})
	}
}

// positions are where a Join is answered: at what was handed over, or ahead.
func (f *feeder) positions(name string) (from []shard.Position) {
	seen := map[shard.Slot]bool{}
	for _, channel := range f.channels {
		slot := shard.Of(channel)
		if bayeux.Match(name, channel) && !seen[slot] {
			seen[slot] = true
			ahead := len(f.log.after(slot, f.fed[slot]))
			from = append(from, shard.Position{Slot: slot, Offset: f.fed[slot] + uint64(f.random.IntN(ahead+1))})
		}
	}
	return from
}

// Who reads history up to where its subscription begins and then takes what is
// handed out, has had everything up to where Handed says, once, unless it was
// told Resync; whatever upstream and others do meanwhile.
func TestNothingIsMissedBetweenHistoryAndDeliveries(t *testing.T) {
	channels := []string{"/r/a", "/r/b", "/r/c", "/s/a", "/s/b"}
	h := hub.New[*plainReader](hub.Config{
		RingMessages: 16, RingBytes: 1 << 16, SlotBytes: 1 << 16, Linger: 2 * time.Second, Lingering: 2,
	})
	log := &sharedLog{entries: map[shard.Slot][]*event.Event{}}
	f := &feeder{
		hub: h, log: log, channels: channels, random: rand.New(rand.NewPCG(1, 2)),
		fed: map[shard.Slot]uint64{}, now: time.Unix(1_700_000_000, 0),
	}
	var readers sync.WaitGroup
	names := append([]string{"/r/*", "/**"}, channels...)
	for i := range 4 {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 3))
			for range 400 {
				r := &plainReader{
					hub: h, log: log, channel: names[random.IntN(len(names))],
					settled: make(chan struct{}), from: map[shard.Slot]uint64{},
				}
				if err := r.read(random, channels); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { readers.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		default:
			f.step()
		}
	}
}

func (r *plainReader) read(random *rand.Rand, channels []string) error {
	slots := map[shard.Slot]uint64{} // where it has read up to before
	for _, channel := range channels {
		if slot := shard.Of(channel); bayeux.Match(r.channel, channel) {
			slots[slot] = r.hub.Handed(slot)
		}
	}
	if !bayeux.IsPattern(r.channel) {
		if err := r.replay(slots[shard.Of(r.channel)]); err != nil {
			return err
		}
	}
	r.hub.Subscribe(time.Time{}, r, 1, r.channel)
	<-r.settled
	if bayeux.IsPattern(r.channel) {
		r.begin(r.hub.From(r.channel))
	}
	defer r.hub.Unsubscribe(r, r.channel)
	for range random.IntN(4) {
		runtime.Gosched()
		for slot, since := range slots {
			if err := r.check(slot, since); err != nil {
				return err
			}
		}
	}
	return nil
}
