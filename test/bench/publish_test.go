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
// keep a stream in memory likewise: while there is little in them, and when the
// stream is full; and beside a stream whose messages have ids, so that what is
// sent again is known again, as with Comet.
func BenchmarkPublishJetStream(b *testing.B) {
	once(b, func() {
		comet := startBrokers(b, "Comet", 3, "--broker.replicas=3", "--broker.min-insync=2")
		nats := startNATS(b, 3)
		if nats == nil {
			reportRatio(b, comet, "")
			return
		}
		empty, full, err := compareFull(b.Context(), comet, nats.stream(b, false), startNATS(b, 3).stream(b, true))
		if err != nil {
			b.Fatal(err)
		}
		reportLoad(b, median(full[0]))
		reportRatioTo(b, "nats", ratio(full[0], full[1]))
		reportRatioTo(b, "nats-with-ids", ratio(full[0], full[2]))
		reportRatioTo(b, "empty-nats", ratio(empty[0], empty[1]))
	})
}

// reportRatio compares a system with another one, if there is one, and reports
// it, and its ratios to that.
func reportRatio(b *testing.B, ours *system, than string, others ...*system) {
	b.Helper()
	all, err := compare(b.Context(), append([]*system{ours}, others...)...)
	if err != nil {
		b.Fatal(err)
	}
	reportLoad(b, median(all[0]))
	if len(others) > 0 {
		reportRatioTo(b, than, ratio(all[0], all[1]))
	}
}

func reportLoad(b *testing.B, own load) {
	b.Helper()
	b.ReportMetric(own.perSecond, "publishes/s")
	b.ReportMetric(own.cpu, "cpu-µs/publish")
	b.ReportMetric(own.p99, "p99-ms")
}

func reportRatioTo(b *testing.B, than string, r load) {
	b.Helper()
	b.ReportMetric(r.perSecond, "ratio-to-"+than)
	b.ReportMetric(r.cpu, "cpu-ratio-to-"+than)
	b.ReportMetric(r.p99, "p99-ratio-to-"+than)
}
