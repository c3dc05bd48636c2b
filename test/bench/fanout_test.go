package bench

import (
	"fmt"
	"testing"
	"time"
)

const (
	fanOutClients = 1000
	fanOutLimit   = 250 * time.Millisecond
)

// BenchmarkFanOutMaximum looks for the most deliveries in a second to 1,000
// clients of which 1 % at most take over 250 ms: from Comet, and in the same
// way from nchan or Faye.
func BenchmarkFanOutMaximum(b *testing.B) {
	for _, transport := range []string{"sse", "stream", "ws"} {
		b.Run(transport, func(b *testing.B) {
			once(b, func() { fanOutStreams(b, transport) })
		})
	}
	for _, transport := range []string{"websocket", "long-polling"} {
		b.Run(transport, func(b *testing.B) {
			once(b, func() { fanOutBayeux(b, transport) })
		})
	}
}

func fanOutStreams(b *testing.B, transport string) {
	b.Helper()
	p := startComet(b)
	comet := fanOutOnce(b, streams(p, transport))
	p.Kill()
	b.ReportMetric(comet.perSecond, "deliveries/s")
	b.ReportMetric(comet.cpu, "cpu-µs/delivery")
	if nchan := startNchan(b, transport); nchan != nil {
		b.ReportMetric(comet.perSecond/fanOutOnce(b, nchan).perSecond, "ratio-to-nchan")
	}
}

func fanOutOnce(b *testing.B, p *peer) figures {
	b.Helper()
	best, err := maximum(p, fanOutClients, fanOutLimit)
	if err != nil {
		b.Fatal(err)
	}
	return best
}

func fanOutBayeux(b *testing.B, transport string) {
	b.Helper()
	limit := fmt.Sprintf("--limit=%v", fanOutLimit)
	p := startComet(b)
	comet := tool(b, siteOf(p), "fanout", transport, fanOutClients, limit)
	p.Kill()
	b.ReportMetric(comet.Delivery.PerSecond, "deliveries/s")
	b.ReportMetric(comet.Server.CPUPerMillion, "cpu-µs/delivery")
	if faye := startFaye(b); faye != nil {
		theirs := tool(b, *faye, "fanout", transport, fanOutClients, limit)
		b.ReportMetric(comet.Delivery.PerSecond/theirs.Delivery.PerSecond, "ratio-to-faye")
	}
}

// BenchmarkHalfLoad is how long deliveries to 1,000 clients take at half of the
// highest rate.
func BenchmarkHalfLoad(b *testing.B) {
	for _, transport := range []string{"sse", "long-polling"} {
		b.Run(transport, func(b *testing.B) {
			once(b, func() {
				s := siteOf(startComet(b))
				most := tool(b, s, "fanout", transport, fanOutClients, fmt.Sprintf("--limit=%v", fanOutLimit))
				half := tool(b, s, "broadcast", transport, fanOutClients, fmt.Sprintf("--rate=%.2f", most.RatePerSecond/2), "--duration=10s")
				b.ReportMetric(half.Delivery.PerSecond, "deliveries/s")
				b.ReportMetric(half.Delivery.Latency.P99, "p99-ms")
			})
		})
	}
}
