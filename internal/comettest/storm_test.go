package comettest_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
)

var (
	seed        = flag.Uint64("seed", 1, "of what is random, or the first of several")
	storms      = flag.Int("storms", 1, "how many random histories TestStorm plays, the first is -seed")
	stormLength = flag.Duration("storm", 30*time.Second, "how long each of them lasts, in virtual time")
)

// TestStorm plays random faults of all kinds on top of each other, against
// clusters with two copies; with even numbers edges follow copies. A failure names its seed: run it with -storms=1
// -seed=N. (What goroutines do in the same moment is not repeated, so it may
// take some runs.)
func TestStorm(t *testing.T) {
	t.Parallel()
	for s := *seed; s < *seed+uint64(*storms); s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { play(t, s) })
		})
	}
}

func play(t *testing.T, number uint64) {
	random := rand.New(rand.NewPCG(number, 4))
	o := comettest.Options{Edges: 2, Brokers: 3 + random.IntN(2), Presence: 1}
	least := 1 + random.IntN(2)
	follow := number%2 == 0
	o.Configure = func(_ string, cfg *config.Config) { cfg.Broker.MinInSync, cfg.Edge.FollowCopies = least, follow }
	s := &storm{world: newWorld(t, o), random: random, busy: map[string]bool{}}
	t.Logf("%d brokers, at least %d in sync, copies are followed: %v", o.Brokers, least, follow)
	for end := time.Now().Add(*stormLength); time.Now().Before(end); {
		time.Sleep(s.upTo(5 * time.Second))
		s.strike()
	}
	s.faults.Wait()
	s.finish()
}

// storm is a world in which everything breaks.
type storm struct {
	*world

	random *rand.Rand // of the test's goroutine
	faults sync.WaitGroup

	mu   sync.Mutex
	busy map[string]bool // nodes whose process something happens to
}

func (s *storm) upTo(d time.Duration) time.Duration { return time.Duration(s.random.Int64N(int64(d))) }

// length is how long a fault lasts: from half a second to two minutes, and half
// of them less than eight seconds.
func (s *storm) length() time.Duration {
	return time.Duration(0.5 * math.Pow(240, s.random.Float64()) * float64(time.Second))
}

func (s *storm) any(names []string) string { return names[s.random.IntN(len(names))] }

// say logs a fault.
func (s *storm) say(format string, args ...any) {
	s.t.Logf("%s: %s", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
}

// strike breaks something, and mends it later.
func (s *storm) strike() {
	a := s.any(append(s.names(), "edge-0", "edge-1"))
	b := s.any(s.others(a))
	if s.random.IntN(8) == 0 {
		b = "presence-0"
	}
	length := s.length()
	switch s.random.IntN(12) {
	case 0, 1, 2:
		s.part(a, b, length)
	case 3:
		s.say("%s and %s are cut", a, b)
		s.Net.Cut(a, b)
	case 4:
		delay := s.upTo(400 * time.Millisecond)
		s.say("%s and %s are %v apart for %v", a, b, delay, length)
		s.Net.Delay(a, b, delay)
		s.later(length, func() { s.Net.Delay(a, b, 0) })
	case 5:
		s.directory(a, length)
	case 6:
		s.pause(a, min(length, 10*time.Second))
	case 7, 8:
		s.crash(b, min(length, 30*time.Second))
	case 9:
		s.crash(s.controller(), min(length, 30*time.Second))
	case 10:
		s.restart(a, min(length, 20*time.Second))
	case 11:
		s.outage(length)
	}
}

// later mends what was broken.
func (s *storm) later(d time.Duration, mend func()) {
	s.faults.Go(func() {
		time.Sleep(d)
		mend()
	})
}

// part closes the ways between two nodes, or one of them, for a while or again
// and again.
func (s *storm) part(a, b string, length time.Duration) {
	part, how := s.Net.Partition, "apart"
	if s.random.IntN(2) == 0 {
		part, how = s.Net.Block, "apart one way"
	}
	if s.random.IntN(4) > 0 {
		s.say("%s and %s are %s for %v", a, b, how, length)
		part(a, b)
		s.later(length, func() { s.Net.Heal(a, b) })
		return
	}
	for end := s.upTo(2 * time.Second); end < length; end += s.upTo(4 * time.Second) {
		s.later(end, func() { part(a, b) })
		end += s.upTo(3 * time.Second)
		s.later(end, func() { s.Net.Heal(a, b) })
	}
	s.say("%s and %s are now and then %s for %v", a, b, how, length)
}

// directory keeps the directory from a node, or makes it slow.
func (s *storm) directory(name string, length time.Duration) {
	n := s.Node(name)
	d := n.Directory
	if slow := s.upTo(2 * time.Second); s.random.IntN(2) == 0 {
		s.say("the directory is %v from %s for %v", slow, name, length)
		d.Slow(slow)
		s.later(length, func() { d.Slow(0) })
		return
	}
	s.say("%s does not reach the directory for %v", name, length)
	s.audit.GivenUp(n)
	d.Disconnect(true)
	s.later(length, func() { d.Disconnect(false) })
}

// outage keeps the directory from everybody. It is asked for so seldom that
// most storms have none.
func (s *storm) outage(length time.Duration) {
	s.say("no directory for %v", length)
	s.Store.Disconnect(true)
	s.later(length, func() { s.Store.Disconnect(false) })
}

// process makes something happen to the process of a node, unless something
// happens to it already.
func (s *storm) process(name string, do func()) {
	s.mu.Lock()
	taken := s.busy[name]
	s.busy[name] = true
	s.mu.Unlock()
	if taken || name == "presence-0" {
		return
	}
	s.faults.Go(func() {
		do()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy[name] = false
	})
}

func (s *storm) pause(name string, length time.Duration) {
	s.process(name, func() {
		s.say("%s stands still for %v", name, length)
		s.Pause(name, true)
		time.Sleep(length)
		s.Pause(name, false)
	})
}

func (s *storm) crash(name string, length time.Duration) {
	s.process(name, func() {
		s.say("%s crashes, for %v", name, length)
		s.Crash(name)
		time.Sleep(length)
		s.Start(name)
	})
}

func (s *storm) restart(name string, length time.Duration) {
	s.process(name, func() {
		s.say("%s stops", name)
		s.Stop(name)
		s.say("%s has stopped, for %v", name, length)
		time.Sleep(length)
		s.Start(name)
	})
}

// controller is the broker that writes the rows, or any.
func (s *storm) controller() string {
	if name := nameOf(s.Store.Leader()); name != "" {
		return name
	}
	return s.any(s.names())
}
