package hub

import (
	"sync"
	"testing"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
)

// Publishers of several slots and followers with little credit run at once;
// every follower gets everything in order.
func TestParallel(t *testing.T) {
	const (
		slots     = 4
		followers = 3
		messages  = 2000
	)
	b := newBroker(history.Class{Messages: messages})
	var publishers, readers sync.WaitGroup
	for n := range shard.Slot(slots) {
		b.serve(n)
	}
	for range followers {
		f := b.hub.Attach(1000)
		for n := range shard.Slot(slots) {
			must(t, f.Open(n, Start{}))
		}
		must(t, f.Join(1, "/a/*"))
		readers.Go(func() {
			defer f.Close()
			follow(t, f, slots*messages)
		})
	}
	for n, o := range b.slots {
		publishers.Go(func() {
			channel := sharing(n, "a", 1)[0]
			for range messages {
				o.mu.Lock()
				o.append(channel)
				o.mu.Unlock()
				o.commit()
			}
		})
	}
	publishers.Wait()
	readers.Wait()
	if n := b.hub.patterns.Len(); n != 0 {
		t.Errorf("%d patterns left", n)
	}
}

// follow takes entries until it has the given number, as an edge does.
func follow(t *testing.T, f *Follower, want int) {
	t.Helper()
	last := map[shard.Slot]uint64{}
	for got := 0; got < want; {
		<-f.Ready()
		var credit uint64
		var lagging []shard.Slot
		for _, it := range f.Items() {
			switch fr := it.Frame.(type) {
			case nil:
				if at, seen := last[it.Slot]; seen && it.Entry.Offset != at+1 {
					t.Errorf("slot %d: entry %d after %d", it.Slot, it.Entry.Offset, at)
				}
				last[it.Slot] = it.Entry.Offset
				credit += uint64(it.Entry.Cost())
				got++
			case Lag:
				lagging = append(lagging, fr.Slot)
			case Resync:
				t.Errorf("%+v", fr)
			}
		}
		f.Grant(credit)
		for _, n := range lagging {
			must(t, f.Pull(n))
		}
		f.Marks()
	}
}
