package outbox

import (
	"fmt"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// BenchmarkEvent is the way of one event at the first holder: heard of,
// published, read back.
func BenchmarkEvent(b *testing.B) {
	box := New(Config{Keep: time.Hour, Most: 250_000, Flying: 64})
	box.SetFirst(everything())
	for c := range Channel(Channels) {
		round, _ := box.Unproven(c)
		box.Proven(c, round)
	}
	channels := []string{"/chat/room/7", "/ticker/ACME"}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := begin.Add(time.Duration(i) * time.Microsecond)
		id := fmt.Sprintf("%08x-session", i)
		e := NewDisconnected(id, "ann", "edge-1", home.Generation{Epoch: 1, Count: 1}, "disconnect", channels, at)
		box.Put(e, time.Time{}, at)
		for _, x := range box.Take(ChannelOf(shard.OfSession(id))) {
			text := x.Text()
			box.Done(x)
			back, err := Parse(text)
			if err != nil {
				b.Fatal(err)
			}
			box.Seen(back, at)
			b.SetBytes(int64(len(text)))
		}
	}
}
