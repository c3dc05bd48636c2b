package controller_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/controller"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

const lease = membership.DefaultLease

// fixture is a directory with brokers that are only announced, in a bubble.
type fixture struct {
	t     *testing.T
	store *memory.Store
	watch *memory.Directory
	ends  []func()

	mu       sync.Mutex
	verdicts map[string]controller.Verdict // by member
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	store := memory.NewStore(lease)
	f := &fixture{t: t, store: store, watch: store.Directory(), verdicts: map[string]controller.Verdict{}}
	t.Cleanup(func() {
		for _, end := range slices.Backward(f.ends) {
			end()
		}
	})
	return f
}

// live runs something until the end of the test, or until it is ended before.
func (f *fixture) live(run func(ctx context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { run(ctx) })
	end = func() { cancel(); wg.Wait() }
	f.ends = append(f.ends, end)
	return end
}

// announce announces a broker. Disconnecting its handle is its crash, ending
// it its withdrawal.
func (f *fixture) announce(name, id string) (handle *memory.Directory, updates chan<- membership.Node, withdraw func()) {
	handle = f.store.Directory()
	ch := make(chan membership.Node)
	end := f.live(func(ctx context.Context) { _ = handle.Register(ctx, node(name, id), ch) })
	synctest.Wait()
	return handle, ch, end
}

func node(name, id string) membership.Node {
	return membership.Node{Name: name, ID: id, Roles: []membership.Role{membership.Broker}, Addr: name + ":7070"}
}

// control runs a controller.
func (f *fixture) control(candidate string, dir membership.Directory) {
	c := controller.New(controller.Config{
		Directory: dir, Candidate: candidate, Lease: lease,
		Probe: func(_ context.Context, n membership.Node) controller.Verdict {
			f.mu.Lock()
			defer f.mu.Unlock()
			if n.Addr != n.Name+":7070" {
				f.t.Errorf("%s was asked for at %q", n.Member(), n.Addr)
			}
			return f.verdicts[n.Member()]
		},
		Moved:  func(placement.Reason) {},
		Logger: slog.New(slog.NewTextHandler(f.t.Output(), nil)).With("candidate", candidate),
	})
	f.live(func(ctx context.Context) {
		if err := c.Run(ctx); err != nil {
			f.t.Errorf("%s: %v", candidate, err)
		}
	})
	synctest.Wait()
}

func (f *fixture) say(member string, v controller.Verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verdicts[member] = v
}

func (f *fixture) owned(member string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	v := <-f.watch.Watch(ctx)
	return len(v.Table.Owned(member))
}

// movedAfter waits until a member owns nothing and says how long that took.
func (f *fixture) movedAfter(member string, within time.Duration) (time.Duration, bool) {
	start := time.Now()
	for time.Since(start) < within {
		if f.owned(member) == 0 {
			return time.Since(start), true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return within, false
}

// settle lets a fixture with brokers a and b come to rest, out of quarantine.
func (f *fixture) settle() {
	f.t.Helper()
	time.Sleep(20 * time.Second)
	if a, b := f.owned("a@1"), f.owned("b@1"); a != shard.Slots/2 || b != shard.Slots/2 {
		f.t.Fatalf("a owns %d slots, b %d", a, b)
	}
}

func TestLostOnlyOnEvidence(t *testing.T) {
	tests := []struct {
		name  string
		do    func(f *fixture, b *memory.Directory, updates chan<- membership.Node, withdraw func())
		moved time.Duration // at most; 0: never
	}{
		{"crashed, refuses", func(f *fixture, b *memory.Directory, _ chan<- membership.Node, _ func()) {
			f.say("b@1", controller.Gone)
			b.Kill()
		}, lease + 2*time.Second},
		{"crashed, silent", func(_ *fixture, b *memory.Directory, _ chan<- membership.Node, _ func()) { b.Kill() }, 0},
		{"cut off from the store, answers", func(f *fixture, b *memory.Directory, _ chan<- membership.Node, _ func()) {
			f.say("b@1", controller.Alive)
			b.Disconnect(true)
		}, 0},
		{"came back with another id", func(f *fixture, b *memory.Directory, _ chan<- membership.Node, _ func()) {
			b.Kill()
			f.announce("b", "2")
		}, time.Second},
		{"draining", func(_ *fixture, _ *memory.Directory, updates chan<- membership.Node, _ func()) {
			leaving := node("b", "1")
			leaving.Draining = true
			updates <- leaving
		}, time.Second},
		{"withdrew without a word", func(_ *fixture, _ *memory.Directory, _ chan<- membership.Node, withdraw func()) {
			withdraw()
		}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				a, _, _ := f.announce("a", "1")
				b, updates, withdraw := f.announce("b", "1")
				f.control("a@1", a)
				f.settle()
				tt.do(f, b, updates, withdraw)
				within := tt.moved
				if within == 0 {
					within = 5 * time.Minute
				}
				if after, moved := f.movedAfter("b@1", within); moved != (tt.moved > 0) {
					t.Errorf("moved: %v after %v", moved, after)
				}
			})
		})
	}
}

// TestDrainedWithNobodyToTakeTheSlots has all brokers leave, and new ones come.
func TestDrainedWithNobodyToTakeTheSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, toA, _ := f.announce("a", "1")
		_, toB, withdraw := f.announce("b", "1")
		f.control("a@1", a)
		f.settle()
		for name, updates := range map[string]chan<- membership.Node{"a": toA, "b": toB} {
			leaving := node(name, "1")
			leaving.Draining = true
			updates <- leaving
		}
		synctest.Wait()
		withdraw()
		f.announce("c", "1")
		if after, moved := f.movedAfter("b@1", 3*time.Second); !moved || f.owned("c@1") != shard.Slots {
			t.Errorf("moved: %v after %v; c owns %d slots", moved, after, f.owned("c@1"))
		}
	})
}

func TestNobodyIsLostInQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, _, _ := f.announce("a", "1")
		b, _, _ := f.announce("b", "1")
		f.control("a@1", a)
		f.settle()
		f.say("b@1", controller.Gone)
		// An outage in which b crashes: it may only be late to come back.
		f.store.Disconnect(true)
		b.Kill()
		time.Sleep(time.Minute)
		f.store.Disconnect(false)
		after, moved := f.movedAfter("b@1", time.Minute)
		if !moved || after < 3*lease || after > 10*time.Second {
			t.Errorf("moved: %v after %v, want after %v", moved, after, 3*lease)
		}
	})
}

func TestTheNextLeaderGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, _, _ := f.announce("a", "1")
		b, _, _ := f.announce("b", "1")
		f.control("a@1", a)
		f.control("b@1", b)
		f.settle()
		f.say("a@1", controller.Gone)
		a.Kill()
		// b has watched all the time, so it need not wait after its election.
		after, moved := f.movedAfter("a@1", time.Minute)
		if !moved || after > 2*lease || f.owned("b@1") != shard.Slots {
			t.Errorf("moved: %v after %v; b owns %d slots", moved, after, f.owned("b@1"))
		}
	})
}

// TestALeaderThatNeverSawTheOwner asks at the address that the row has.
func TestALeaderThatNeverSawTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, _, _ := f.announce("a", "1")
		f.control("a@1", a)
		time.Sleep(10 * time.Second)
		a.Kill()
		time.Sleep(time.Minute)
		f.say("a@1", controller.Gone)
		b, _, _ := f.announce("b", "1")
		f.control("b@1", b)
		after, moved := f.movedAfter("a@1", time.Minute)
		if !moved || after < 3*lease || f.owned("b@1") != shard.Slots {
			t.Errorf("moved: %v after %v; b owns %d slots", moved, after, f.owned("b@1"))
		}
	})
}

// slowly makes every write take as long as an fsync of etcd.
type slowly struct{ membership.Directory }

func (s slowly) Campaign(ctx context.Context, candidate string) (membership.Leadership, error) {
	l, err := s.Directory.Campaign(ctx, candidate)
	return slowLeader{l}, err
}

type slowLeader struct{ membership.Leadership }

func (l slowLeader) Write(ctx context.Context, c membership.Change) error {
	time.Sleep(20 * time.Millisecond)
	return l.Leadership.Write(ctx, c)
}

func TestTheFirstRowsAreWrittenQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		a, _, _ := f.announce("a", "1")
		start := time.Now()
		f.control("a@1", slowly{a})
		for f.owned("a@1") < shard.Slots {
			time.Sleep(10 * time.Millisecond)
			if time.Since(start) > time.Second {
				t.Fatalf("a owns %d slots after a second", f.owned("a@1"))
			}
		}
		t.Logf("all slots have an owner after %v", time.Since(start))
	})
}
