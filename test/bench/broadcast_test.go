package bench

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// BenchmarkBroadcast sends 100 bytes to 10,000 clients once a second, and
// measures the processor time of the server for each delivery: of Comet, of a
// bare loop that writes the same bytes to as many sockets, and of nchan and
// Faye where they are installed and have such a transport.
func BenchmarkBroadcast(b *testing.B) {
	for _, transport := range []string{"sse", "stream", "multipart", "frame", "ws"} {
		b.Run(transport, func(b *testing.B) {
			once(b, func() { broadcastStreams(b, transport) })
		})
	}
	for _, transport := range []string{"websocket", "long-polling"} {
		b.Run(transport, func(b *testing.B) {
			once(b, func() { broadcastBayeux(b, transport) })
		})
	}
}

const broadcastClients = 10_000

func broadcastStreams(b *testing.B, transport string) {
	b.Helper()
	p := startComet(b)
	comet := broadcastOnce(b, streams(p, transport))
	p.Kill()
	b.ReportMetric(comet.cpu, "cpu-µs/delivery")
	b.ReportMetric(float64(comet.p99.Microseconds())/1000, "p99-ms")
	b.ReportMetric(comet.bytes, "bytes/delivery")
	bare := broadcastOnce(b, startBare(b, int(comet.bytes+0.5)))
	b.ReportMetric(comet.cpu/bare.cpu, "ratio-to-write")
	if nchan := startNchan(b, transport); nchan != nil {
		b.ReportMetric(comet.cpu/broadcastOnce(b, nchan).cpu, "ratio-to-nchan")
	}
}

func broadcastOnce(b *testing.B, p *peer) figures {
	b.Helper()
	fmt.Fprintf(os.Stderr, "%s: a broadcast to %d clients\n", p.name, broadcastClients)
	f, err := broadcast(p, broadcastClients, 1, 3*time.Second, 10*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	if f.lost > 0 {
		b.Fatalf("%s: %d deliveries are missing", p.name, f.lost)
	}
	return f
}

func broadcastBayeux(b *testing.B, transport string) {
	b.Helper()
	flags := []string{"--rate=1", "--duration=10s", "--warmup=3s"}
	p := startComet(b)
	comet := tool(b, siteOf(p), "broadcast", transport, broadcastClients, flags...)
	p.Kill()
	b.ReportMetric(comet.Server.CPUPerMillion, "cpu-µs/delivery")
	b.ReportMetric(comet.Delivery.Latency.P99, "p99-ms")
	b.ReportMetric(comet.Delivery.BytesPerDelivery, "bytes/delivery")
	bare := broadcastOnce(b, startBare(b, int(comet.Delivery.BytesPerDelivery+0.5)))
	b.ReportMetric(comet.Server.CPUPerMillion/bare.cpu, "ratio-to-write")
	if faye := startFaye(b); faye != nil {
		theirs := tool(b, *faye, "broadcast", transport, broadcastClients, flags...)
		b.ReportMetric(comet.Server.CPUPerMillion/theirs.Server.CPUPerMillion, "ratio-to-faye")
	}
}
