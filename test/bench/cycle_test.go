package bench

import (
	"testing"
	"time"
)

// BenchmarkLongPollCycle is what the server needs for one long poll of a plain
// channel, from its answer to the next request held, and for each of the same
// requests when a handler of net/http answers them at once: 1,000 clients, 5
// times a second.
func BenchmarkLongPollCycle(b *testing.B) {
	once(b, func() {
		p := startComet(b)
		comet := cycle(b, polls(p))
		p.Kill()
		b.ReportMetric(comet.cpu, "cpu-µs/cycle")
		b.ReportMetric(comet.cpu/cycle(b, startHandler(b)).cpu, "ratio-to-handler")
	})
}

func cycle(b *testing.B, p *peer) figures {
	b.Helper()
	const clients, rate = 1000, 5
	f, err := broadcast(p, clients, rate, 3*time.Second, 10*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	if f.lost > 0 {
		b.Fatalf("%s: %d answers are missing", p.name, f.lost)
	}
	return f
}
