package bench

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// openRate is what publishers send in a second, together, where the same load
// is put on two brokers: about a third of what one takes on two cores.
const openRate = 10_000

// retaining is a config that retains so many messages of each channel.
func retaining(b *testing.B, messages int) string {
	b.Helper()
	return "--config=" + cluster.Config(b, fmt.Sprintf(
		"namespaces: [{pattern: /**, subscribe: anyone, publish: anyone, messages: %d, bytes: 16MiB, age: 1h}]", messages))
}

// BenchmarkPublishHistory is publishing to a broker with 1 GB of history beside
// one with 10 MB, and what of their processor time the collector of garbage
// takes.
func BenchmarkPublishHistory(b *testing.B) {
	once(b, func() {
		const (
			much   = 1 << 30 / loadChannels / loadBytes
			little = 10 << 20 / loadChannels / loadBytes
		)
		large := startBrokers(b, "1 GB", 1, "--broker.replicas=1", "--broker.slot-bytes=32MiB", retaining(b, much))
		small := startBrokers(b, "10 MB", 1, "--broker.replicas=1", "--broker.slot-bytes=32MiB", retaining(b, little))
		fill(b, large, 1<<30)
		fill(b, small, 20<<20)
		large.every, small.every = loadPublishers*time.Second/openRate, loadPublishers*time.Second/openRate
		before := []collection{collecting(b, large), collecting(b, small)}
		all, err := compare(b.Context(), large, small)
		if err != nil {
			b.Fatal(err)
		}
		after := []collection{collecting(b, large), collecting(b, small)}
		r := ratio(all[0], all[1])
		b.ReportMetric(median(all[0]).p99, "p99-ms")
		b.ReportMetric(r.p99, "p99-ratio-to-10MB")
		b.ReportMetric(r.cpu, "cpu-ratio-to-10MB")
		b.ReportMetric(after[0].since(before[0]), "gc-%")
		b.ReportMetric(after[1].since(before[1]), "gc-%-10MB")
		rss, err := pss(large.pids[0])
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(rss)/(1<<20), "pss-MiB")
	})
}

// fill publishes so many bytes of data, and says how far it is.
func fill(b *testing.B, s *system, bytes int) {
	b.Helper()
	c, err := hire(b.Context(), s)
	if err != nil {
		b.Fatal(err)
	}
	for left := bytes / loadBytes; left > 0; {
		l, err := c.work(loadRound)
		if err != nil {
			b.Fatal(err)
		}
		left -= int(l.perSecond * loadRound.Seconds())
		fmt.Fprintf(os.Stderr, "%s: %d MiB to fill\n", s.name, max(left, 0)*loadBytes>>20)
	}
}

// collection is how long processors were used, in seconds.
type collection struct{ collecting, used float64 }

// collecting is how much a system used for collecting garbage.
func collecting(b *testing.B, s *system) collection {
	b.Helper()
	var u collection
	for _, p := range s.processes {
		gc, err := p.Metric("go_cpu_classes_gc_total_cpu_seconds_total")
		if err != nil || gc == 0 {
			b.Fatalf("no metric of the collector: %v", err)
		}
		u.collecting += gc
	}
	used, err := cpuOf(s.pids)
	if err != nil {
		b.Fatal(err)
	}
	u.used = used.Seconds()
	return u
}

// since is the share in what was used since an earlier time, in percent.
func (u collection) since(before collection) float64 {
	return 100 * (u.collecting - before.collecting) / (u.used - before.used)
}

// BenchmarkPublishCatchUp is publishing to three brokers while one of them, which
// starts empty, gets its share of the copies, beside the same three at rest; and
// beside the two before, with a process less on the same processors. It joins
// three times.
func BenchmarkPublishCatchUp(b *testing.B) {
	once(b, func() {
		const history, joins = 256 << 20, 3
		s := startBrokers(b, "two brokers", 2, "--broker.replicas=2", "--broker.slot-bytes=8MiB",
			retaining(b, history/loadChannels/loadBytes))
		fill(b, s, history)
		s.every = loadPublishers * time.Second / openRate
		c, err := hire(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		var two, catching, rest []load
		var took time.Duration
		for i := range joins {
			if i > 0 {
				s.leave()
			}
			two = append(two, workWell(b, c, 2*loadRound))
			began := time.Now()
			catching = append(catching, workUntil(b, c, s.join)...)
			took += time.Since(began)
			rest = append(rest, workWell(b, c, 2*loadRound))
			fmt.Fprintf(os.Stderr, "p99: two brokers %.1f ms, a third catches up %.1f ms, three at rest %.1f ms\n",
				two[i].p99, median(catching).p99, rest[i].p99)
		}
		during := median(catching).p99
		b.ReportMetric(took.Seconds()/joins, "s-to-catch-up")
		b.ReportMetric(during, "p99-ms")
		b.ReportMetric(during/median(rest).p99, "p99-ratio-to-three-at-rest")
		b.ReportMetric(during/median(two).p99, "p99-ratio-to-two")
	})
}

// workWell publishes for so long.
func workWell(b *testing.B, c *crew, length time.Duration) load {
	b.Helper()
	l, err := c.work(length)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// workUntil publishes, round by round, until something is done.
func workUntil(b *testing.B, c *crew, do func()) (rounds []load) {
	b.Helper()
	done := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		for {
			l, err := c.work(loadRound)
			if err != nil {
				failed <- err
				return
			}
			rounds = append(rounds, l)
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	do()
	close(done)
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
	return rounds
}
