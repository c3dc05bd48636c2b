package replica

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"
)

var (
	seeds = flag.Uint64("seeds", 0, "how many schedules to play")
	first = flag.Uint64("seed", 1, "the first of them")
)

// TestSimulation plays random schedules. One that fails is shown by
// -seed=<its seed> -seeds=1 -v.
func TestSimulation(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 3000
	}
	if s := os.Getenv("COMET_SEEDS"); s != "" {
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	var sum counts
	for seed := *first; seed < *first+n; seed++ {
		var log *strings.Builder
		if n == 1 {
			log = &strings.Builder{}
		}
		w, err := run(seed, log)
		if log != nil {
			t.Log(log.String())
		}
		if err != nil {
			t.Fatal(err)
		}
		sum.leads += w.count.leads
		sum.begins += w.count.begins
		sum.writes += w.count.writes
		sum.changes += w.count.changes
		sum.reads += w.count.reads
		sum.relays += w.count.relays
		sum.marks += w.count.marks
	}
	t.Logf("%d schedules: %+v", n, sum)
}
