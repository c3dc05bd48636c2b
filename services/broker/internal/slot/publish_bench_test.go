package slot

import (
	"fmt"
	"testing"
	"time"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// BenchmarkCopies publishes to many slots in turn, as a broker sees them, and
// to a copy of each: memory is not in any cache.
func BenchmarkCopies(b *testing.B) {
	const slots, channels = 256, 4
	class := func(string) history.Class {
		return history.Class{Messages: 100, Bytes: 1 << 20, Age: 5 * time.Minute, MessageBytes: 512 << 10}
	}
	var primaries, backups []*Slot
	for range slots {
		cfg := Config{Base: 1, Term: 1, LogBytes: 512 << 10}
		cfg.Retention.Class = class
		primaries, backups = append(primaries, New(cfg)), append(backups, New(cfg))
	}
	data := make([]byte, 256)
	var wire []byte
	now := start()
	publish := func(i int) {
		p := Publication{
			Channel: fmt.Sprint("/bench/", i%(slots*channels)), Data: data, Key: fmt.Sprintf("0123456789abcdef-%d", i),
		}
		from, to := primaries[i%slots], backups[i%slots]
		if _, err := from.Append(p, now); err != nil {
			b.Fatal(err)
		}
		wire = make([]byte, 0, 512)
		for _, e := range from.After(from.End()-1, 1<<20) {
			wire = e.AppendTo(wire)
		}
		var e history.Entry
		_, err := e.Decode(wire)
		if err == nil {
			err = to.Replicate(&e)
		}
		if err != nil {
			b.Fatal(err)
		}
		from.Commit(from.End())
		to.Commit(to.End())
	}
	const before = 200_000
	for i := range before {
		publish(i)
	}
	b.ReportAllocs()
	i := before
	for b.Loop() {
		publish(i)
		i++
	}
}
