package slot

import (
	"fmt"
	"testing"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// BenchmarkSnapshot takes a snapshot of a slot with 4 MiB of history: what the
// slot's lock is held for.
func BenchmarkSnapshot(b *testing.B) {
	s := full()
	b.ReportAllocs()
	for b.Loop() {
		s.Snapshot()
	}
	b.ReportMetric(float64(s.History().Len()), "entries")
}

// BenchmarkSnapshotPieces writes all of it, without the lock.
func BenchmarkSnapshotPieces(b *testing.B) {
	s := full()
	for b.Loop() {
		pieces(s, 256<<10)
	}
}

func BenchmarkRestore(b *testing.B) {
	all := pieces(full(), 256<<10)
	for b.Loop() {
		if err := restore(newSlot(nil), all); err != nil {
			b.Fatal(err)
		}
	}
}

// full is a slot with as much history and as many keys as it keeps.
func full() *Slot {
	s := newSlot(func(c *Config) {
		c.Retention.Class = func(string) history.Class { return history.Class{Messages: 1 << 20} }
	})
	data := make([]byte, 256)
	for i := range 40_000 {
		outcome(s, Publication{Channel: fmt.Sprint("/bench/", i%1000), Key: fmt.Sprint("key-", i), Data: data}, start())
		s.Commit(s.End())
	}
	return s
}
