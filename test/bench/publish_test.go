package bench

import (
	"testing"
)

// BenchmarkPublishCopies is publishing to three brokers with two copies of each
// slot, and with one.
func BenchmarkPublishCopies(b *testing.B) {
	once(b, func() {
		two := startBrokers(b, "two copies", 3, "--broker.replicas=2")
		one := startBrokers(b, "one copy", 3, "--broker.replicas=1")
		reportRatio(b, two, "one", one)
	})
}

// BenchmarkPublishDisk is publishing to three brokers with two copies of each
// slot that are synced with their disks before a message is acknowledged, and
// with copies in memory.
func BenchmarkPublishDisk(b *testing.B) {
	once(b, func() {
		disk := startBrokers(b, "on disk", 3, "--broker.replicas=2", onDisk)
		memory := startBrokers(b, "in memory", 3, "--broker.replicas=2")
		reportRatio(b, disk, "memory", memory)
	})
}

// BenchmarkPublishJetStream is publishing to three brokers of which two must
// have a message before it is acknowledged, beside three servers of NATS that
// keep a stream in memory likewise: one of all channels, and four.
func BenchmarkPublishJetStream(b *testing.B) {
	once(b, func() {
		comet := startBrokers(b, "Comet", 3, "--broker.replicas=3", "--broker.min-insync=2")
		nats := startNATS(b, 3)
		if nats == nil {
			reportRatio(b, comet, "")
			return
		}
		reportRatio(b, comet, "nats", nats.streams(b, 1), nats.streams(b, 4))
	})
}

// reportRatio compares a system with others and reports it, and its ratios to
// the fastest one of these.
func reportRatio(b *testing.B, ours *system, than string, others ...*system) {
	b.Helper()
	all, err := compare(b.Context(), append([]*system{ours}, others...)...)
	if err != nil {
		b.Fatal(err)
	}
	own := median(all[0])
	b.ReportMetric(own.perSecond, "publishes/s")
	b.ReportMetric(own.cpu, "cpu-µs/publish")
	b.ReportMetric(own.p99, "p99-ms")
	best := load{}
	for _, theirs := range all[1:] {
		if r := ratio(all[0], theirs); best.perSecond == 0 || r.perSecond < best.perSecond {
			best = r
		}
	}
	if len(others) > 0 {
		b.ReportMetric(best.perSecond, "ratio-to-"+than)
		b.ReportMetric(best.cpu, "cpu-ratio-to-"+than)
		b.ReportMetric(best.p99, "p99-ratio-to-"+than)
	}
}
