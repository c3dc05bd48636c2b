package holder

import (
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	seeds     = flag.Uint64("seeds", 0, "how many schedules to play")
	firstSeed = flag.Uint64("seed", 1, "the first of them")
)

// TestSimulation plays random schedules. One that fails is shown by
// -seed=<its seed> -seeds=1 -v.
func TestSimulation(t *testing.T) {
	n := *seeds
	if n == 0 {
		n = 500
	}
	if s := os.Getenv("COMET_SEEDS"); s != "" {
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	var sum counts
	begun := time.Now()
	for seed := *firstSeed; seed < *firstSeed+n; seed++ {
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
		sum.add(w.count)
	}
	t.Logf("%d schedules in %v: %+v", n, time.Since(begun).Round(time.Millisecond), sum)
}

func (c *counts) add(o counts) {
	c.handshakes += o.handshakes
	c.answers += o.answers
	c.claims += o.claims
	c.takes += o.takes
	c.records += o.records
	c.moves += o.moves
	c.unknown += o.unknown
	c.lost += o.lost
	c.again += o.again
}
