package report_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// TestHeartbeats counts what a node is told in a minute in which messages come on
// all slots and nothing becomes of sessions: it does not depend on how many there
// are.
func TestHeartbeats(t *testing.T) {
	for _, sessions := range []int{10, 20_000} {
		t.Run(fmt.Sprint(sessions), func(t *testing.T) {
			inWorld(t, func(w *world) {
				for i := range sessions {
					w.sessions.set(fmt.Sprint("s", i), "/a", "/b")
				}
				for i := range sessions {
					w.reporter.Changed(fmt.Sprint("s", i))
				}
				w.check()
				w.node.mu.Lock()
				batches, bytes := w.node.batches, w.node.bytes
				w.node.mu.Unlock()
				const seconds = 60
				for n := range seconds {
					vector := make([]uint64, shard.Slots)
					for slot := range vector {
						vector[slot] = 1<<52 + uint64(n)
					}
					w.sessions.mu.Lock()
					w.sessions.vector = vector
					w.sessions.mu.Unlock()
					time.Sleep(time.Second)
				}
				w.wait()
				w.node.mu.Lock()
				defer w.node.mu.Unlock()
				batches, bytes = w.node.batches-batches, w.node.bytes-bytes
				t.Logf("%d batches, %d bytes a second", batches, bytes/seconds)
				if batches < seconds-1 || batches > seconds+1 || bytes > seconds*2200 {
					t.Errorf("%d batches with %d bytes in %d s, want one of 2 KiB a second", batches, bytes, seconds)
				}
			})
		})
	}
}
