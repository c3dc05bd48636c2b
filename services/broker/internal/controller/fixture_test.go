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

// fixture is a directory with brokers that only do what primaries do to rows,
// in a bubble.
type fixture struct {
	t     *testing.T
	store *memory.Store
	watch *memory.Directory
	cfg   placement.Config
	ends  []func()

	mu       sync.Mutex
	verdicts map[string]controller.Verdict // by member
}

func newFixture(t *testing.T, cfg placement.Config) *fixture {
	t.Helper()
	store := memory.NewStore(lease)
	f := &fixture{t: t, store: store, watch: store.Directory(), cfg: cfg, verdicts: map[string]controller.Verdict{}}
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

// process is a broker, or holds presence shards. Killing its handle is its
// crash, end its withdrawal.
type process struct {
	node    membership.Node
	dir     *memory.Directory
	updates chan membership.Node
	end     func()
}

func (f *fixture) start(name, id string, durable bool) *process {
	p := f.announce(membership.Node{
		Name: name, ID: id, Roles: []membership.Role{membership.Broker}, Addr: name + ":7070", Durable: durable,
	})
	f.live(p.lead)
	synctest.Wait()
	return p
}

func (f *fixture) announce(n membership.Node) *process {
	p := &process{node: n, dir: f.store.Directory(), updates: make(chan membership.Node)}
	p.end = f.live(func(ctx context.Context) { _ = p.dir.Register(ctx, p.node, p.updates) })
	synctest.Wait()
	return p
}

func (p *process) drain() {
	leaving := p.node
	leaving.Draining = true
	p.updates <- leaving
}

func (p *process) cordon() {
	cordoned := p.node
	cordoned.Cordoned = true
	p.updates <- cordoned
}

// lead follows the rows of which the process is the primary.
func (p *process) lead(ctx context.Context) {
	for v := range p.dir.Watch(ctx) {
		for n := range shard.Slot(shard.Slots) {
			r := v.Table.Row(n)
			if r.Primary != p.node.Member() {
				continue
			}
			if next, present, ok := step(v, r); ok {
				_, _ = p.dir.Swap(ctx, membership.Change{Slot: n, Row: next, Present: present}) // else with the next view
			}
		}
	}
}

// step is the next thing to do for a primary.
func step(v membership.View, r shard.Row) (next shard.Row, present []string, ok bool) {
	r.InSync = slices.Clone(r.InSync)
	for _, m := range r.Replicas {
		if _, announced := v.Node(m); announced && !slices.Contains(r.InSync, m) {
			r.InSync = append(r.InSync, m)
			return r, []string{m}, true
		}
	}
	if to := r.Replicas[0]; to != r.Primary && slices.Contains(r.InSync, to) {
		node, _ := v.Node(to)
		r.Term++
		r.Primary, r.Addr = to, node.Addr
		return r, []string{to}, true
	}
	for i, m := range r.InSync {
		_, announced := v.Node(m)
		desired := slices.Contains(r.Replicas, m)
		all := !slices.ContainsFunc(r.Replicas, func(m string) bool { return !slices.Contains(r.InSync, m) })
		if !announced && m != r.Primary || !desired && all {
			r.InSync = slices.Delete(r.InSync, i, i+1)
			return r, nil, true
		}
	}
	return r, nil, false
}

// control runs a controller.
func (f *fixture) control(candidate string, dir membership.Directory) *controller.Controller {
	c := controller.New(controller.Config{
		Directory: dir, Candidate: candidate, Lease: lease, Placement: f.cfg,
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
	return c
}

func (f *fixture) say(member string, v controller.Verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verdicts[member] = v
}

func (f *fixture) view() membership.View {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return <-f.watch.Watch(ctx)
}

func (f *fixture) table() *shard.Table { return f.view().Table }

func (f *fixture) leads(member string) int { return len(f.table().Owned(member)) }

func (f *fixture) ledBy(member string) shard.Slot { return f.table().Owned(member)[0] }

// holds is in how many slots a member is in sync.
func (f *fixture) holds(member string) int {
	holds, table := 0, f.table()
	for n := range shard.Slot(shard.Slots) {
		if slices.Contains(table.Row(n).InSync, member) {
			holds++
		}
	}
	return holds
}

// leadsNothing waits until a member leads no slot and says how long that took.
func (f *fixture) leadsNothing(member string, within time.Duration) (time.Duration, bool) {
	begin := time.Now()
	for time.Since(begin) < within {
		if f.leads(member) == 0 {
			return time.Since(begin), true
		}
		if time.Since(begin) < 20*time.Second {
			time.Sleep(50 * time.Millisecond)
		} else {
			time.Sleep(time.Second)
		}
	}
	return within, false
}

// rest waits until the table has not changed for a while.
func (f *fixture) rest() {
	f.t.Helper()
	var last int64
	for quiet := 0; quiet < 20; quiet++ {
		time.Sleep(time.Second)
		newest := int64(0)
		for n := range shard.Slot(shard.Slots) {
			newest = max(newest, f.table().Row(n).Version)
		}
		if newest != last {
			last, quiet = newest, 0
		}
	}
}

// settle lets a fixture with brokers come to rest, out of quarantine.
func (f *fixture) settle() {
	f.t.Helper()
	f.rest()
	if !f.table().Complete() {
		f.t.Fatal("there are slots without a primary")
	}
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
