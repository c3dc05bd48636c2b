package disk

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// keeper keeps logs that commit what is kept.
type keeper struct{ slots [shard.Slots]kept }

// Synced implements Handler.
func (k *keeper) Synced(n shard.Slot, m Mark) {
	k.slots[n].journal.Synced(m)
	k.slots[n].log.Commit(k.slots[n].log.Held())
}

// Checkpoint implements Handler.
func (k *keeper) Checkpoint(n shard.Slot) { k.slots[n].journal.Checkpoint(k.slots[n].log.Snapshot()) }

// BenchmarkAppend appends 256 bytes to each of all slots and writes them as one
// batch; written/B is what reaches files, of all that was appended.
func BenchmarkAppend(b *testing.B) {
	s, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	k := &keeper{}
	for n := range k.slots {
		log := slot.New(slot.Config{
			LogBytes: 512 << 10,
			Retention: history.Config{Bytes: 4 << 20, Class: func(string) history.Class {
				return history.Class{Messages: 100, Bytes: 1 << 20, Age: 5 * time.Minute}
			}},
		})
		k.slots[n].log = log
		if k.slots[n].journal, err = s.Load(shard.Slot(n), log); err != nil {
			b.Fatal(err)
		}
		log.Reset(100)
		if err := log.Adopt(1); err != nil {
			b.Fatal(err)
		}
	}
	noise := make([]byte, 1<<20) // so that nothing is gained by compression
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	const size = 256
	appended := 0
	for i := 0; b.Loop(); i++ {
		for n := range k.slots {
			at := (i*len(k.slots) + n) * 97 % (len(noise) - size)
			data := noise[at : at+size]
			if _, err := k.slots[n].log.Append(slot.Publication{Channel: fmt.Sprint("/c/", i%50), Data: data}, time.Now()); err != nil {
				b.Fatal(err)
			}
			appended += size
		}
		for more := true; more; {
			if more, err = s.round(k); err != nil {
				b.Fatal(err)
			}
		}
	}
	m := s.db.Metrics()
	total := m.Total()
	b.ReportMetric(float64(total.TableBytesFlushed+total.TableBytesCompacted+m.WAL.BytesWritten)/float64(appended), "files/B")
	b.ReportMetric(float64(m.WAL.BytesWritten)/float64(appended), "log/B")
	b.ReportMetric(float64(m.DiskSpaceUsage())/(1<<20), "MiB")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
