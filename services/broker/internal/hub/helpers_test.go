package hub

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// owned is a slot as a broker's shell holds it.
type owned struct {
	now *time.Time
	mu  sync.Mutex
	log *slot.Slot
	fan *Slot

	stale bool
}

// broker is a hub with slots.
type broker struct {
	hub   *Hub
	slots map[shard.Slot]*owned
	now   time.Time
	base  uint64
	class func(string) history.Class
}

const version = 9

func newBroker(class history.Class) *broker {
	return &broker{
		hub:   New(func(shard.Slot) int64 { return version }),
		slots: map[shard.Slot]*owned{},
		now:   time.Unix(1_700_000_000, 0),
		class: func(channel string) history.Class {
			if strings.HasPrefix(channel, "/none/") {
				return history.Class{}
			}
			return class
		},
	}
}

// serve begins to own a slot with an empty log.
func (b *broker) serve(n shard.Slot) *owned {
	b.base += 1000
	o := &owned{now: &b.now, log: slot.New(slot.Config{Term: 3, Base: b.base, LogBytes: 1, Retention: history.Config{
		Class: b.class, PositionTTL: 1000 * time.Hour,
	}})}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fan = b.hub.Add(n, &o.mu, led{o.log, o})
	b.slots[n] = o
	return o
}

// led is a log as its primary knows it.
type led struct {
	*slot.Slot
	owned *owned
}

func (l led) Fresh() bool  { return !l.owned.stale }
func (l led) Surely() bool { return !l.owned.stale }

// remove ends serving a slot.
func (b *broker) remove(n shard.Slot) {
	o := b.slots[n]
	o.mu.Lock()
	defer o.mu.Unlock()
	b.hub.Remove(n)
}

func (o *owned) append(channel string) {
	_, err := o.log.Append(slot.Publication{Channel: channel, Data: []byte("1")}, *o.now)
	if err != nil {
		panic(err)
	}
}

func (o *owned) commit() []*history.Entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	passed := o.log.Commit(o.log.End())
	o.fan.Publish(passed)
	return passed
}

func (b *broker) publish(channels ...string) {
	for _, channel := range channels {
		o := b.slots[shard.Of(channel)]
		o.mu.Lock()
		o.append(channel)
		o.mu.Unlock()
		o.commit()
	}
}

// sharing returns n channels /<prefix>/<i> of one slot.
func sharing(of shard.Slot, prefix string, n int) []string {
	var channels []string
	for i := 0; len(channels) < n; i++ {
		if channel := fmt.Sprintf("/%s/%d", prefix, i); shard.Of(channel) == of {
			channels = append(channels, channel)
		}
	}
	return channels
}

// cost is what a one-byte entry of a channel takes of credit.
func cost(channel string) uint64 { return uint64(len(channel)) + 65 }

// news takes a follower's items and writes them down, offsets relative to base.
func (b *broker) news(f *Follower) string {
	var lines []string
	for _, it := range f.Items() {
		lines = append(lines, b.describe(it))
	}
	return strings.Join(lines, ", ")
}

func (b *broker) describe(it Item) string {
	rel := func(offset uint64) uint64 { return offset % 1000 }
	switch fr := it.Frame.(type) {
	case nil:
		return fmt.Sprint(rel(it.Entry.Offset))
	case Opened:
		if fr.Reset {
			return fmt.Sprintf("reset %d", rel(fr.Through))
		}
		return fmt.Sprintf("opened %d", rel(fr.Through))
	case Joined:
		at := make([]uint64, len(fr.Positions))
		for i, p := range fr.Positions {
			at[i] = rel(p.Offset)
		}
		slices.Sort(at)
		return fmt.Sprintf("joined#%d %v", fr.ID, at)
	case Lag:
		return fmt.Sprintf("lag %d", rel(fr.Through))
	case Resumed:
		return fmt.Sprintf("resumed %d", rel(fr.Through))
	case Resync:
		return fmt.Sprintf("resync %v %d", fr.Interests, rel(fr.Through))
	case Moved:
		return fmt.Sprintf("moved v%d", fr.Version)
	case Marks:
		at := make([]uint64, len(fr.Moved))
		for i, m := range fr.Moved {
			at[i] = rel(m.Commit)
		}
		if len(fr.Stale) > 0 {
			return fmt.Sprintf("marks %v, stale %v", at, fr.Stale)
		}
		return fmt.Sprintf("marks %v", at)
	}
	return "?"
}

func check[T comparable](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if got != want {
		tb.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
