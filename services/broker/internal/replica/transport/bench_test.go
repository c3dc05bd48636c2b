package transport_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"
)

// BenchmarkReplicate sends entries over TCP between two meshes in one process,
// each acknowledged: one op is an Append that is sent, decoded, answered by an
// Ack, and that decoded.
func BenchmarkReplicate(b *testing.B) {
	for _, bb := range []struct{ entries, bytes, window int }{
		{1, 256, 1}, {1, 256, 256}, {1, 256, 4096}, {16, 256, 256}, {1, 64 << 10, 64}, {1, 512 << 10, 16},
	} {
		b.Run(fmt.Sprintf("entries=%d/bytes=%d/window=%d", bb.entries, bb.bytes, bb.window), func(b *testing.B) {
			exchangeEntries(b, bb.entries, bb.bytes, bb.window)
		})
	}
}

func exchangeEntries(b *testing.B, entries, size, window int) {
	b.Helper()
	var a, z *member
	quiet := func(c *transport.Config) { c.Logger = slog.New(slog.DiscardHandler) }
	up := make(chan struct{})
	acks := make(chan struct{}, window)
	ready := make(chan struct{})
	z = start(b, loopback{}, node("z", 1), handler{receive: func(member string, slot shard.Slot, m replica.Message) {
		<-ready
		append := m.(*replica.Append)
		z.Send(member, slot, &replica.Ack{Term: append.Term, Round: append.Round, End: append.Prev + uint64(len(append.Entries))})
	}}, quiet)
	close(ready)
	a = start(b, loopback{}, node("a", 1), handler{
		up:      func(string) { close(up) },
		receive: func(string, shard.Slot, replica.Message) { acks <- struct{}{} },
	}, quiet)
	a.Peers([]membership.Node{z.node})
	<-up

	m := &replica.Append{Term: 3, Round: 7, Prev: 1 << 40, Commit: 1 << 40}
	for i := range entries {
		m.Entries = append(m.Entries, &history.Entry{
			Channel: "/market/quotes/ACME", Offset: m.Prev + 1 + uint64(i), Prev: m.Prev, Term: 3, Time: 1_900_000_000_000,
			Data: bytes.Repeat([]byte("x"), size), Key: "8c7fbc1f0a3d4be5",
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	sent := 0
	for sent < min(window, b.N) {
		a.Send(z.node.Member(), shard.Slot(sent%shard.Slots), m)
		sent++
	}
	for range b.N {
		<-acks
		if sent < b.N {
			a.Send(z.node.Member(), shard.Slot(sent%shard.Slots), m)
			sent++
		}
	}
	perSecond := float64(b.N*entries) / b.Elapsed().Seconds()
	b.ReportMetric(perSecond, "entries/s")
	b.ReportMetric(perSecond*float64(size)/1e6, "MB/s")
}
