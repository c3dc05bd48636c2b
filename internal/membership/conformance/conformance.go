// Package conformance is the test of a membership driver: what every part of
// Comet relies on, said once, run against each driver.
package conformance

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// Pace is how fast a store under test is.
type Pace struct {
	// Lease is its lease.
	Lease time.Duration
	// Patience is added to every time by which something must have happened:
	// 0 if the driver's time is virtual, else what a busy machine may take.
	Patience time.Duration
}

const (
	// soon is how fast news travels while all is well, and how fast nodes are
	// announced again once the store is back.
	soon = time.Second
	// noticed is how long an outage may go unnoticed.
	noticed = 2*time.Second + soon/4
	// acted is how long a store takes to act on the end of a lease.
	acted = 2 * time.Second
)

// Store is a store under test. It starts empty.
type Store interface {
	// Open connects a new process to it.
	Open(t *testing.T) Handle
	// Disconnect begins or ends an outage for every process.
	Disconnect(t *testing.T, down bool)
	// Expire ends the lease of a node, as if nothing had been heard of it.
	Expire(t *testing.T, n membership.Node)
}

// Handle is the connection of one process.
type Handle interface {
	membership.Directory
	// Disconnect cuts this process off, or connects it again.
	Disconnect(cut bool)
	// Kill is the crash of the process.
	Kill()
}

// Run tests a driver: each case on a store of its own, inside around, which is
// synctest.Test if the driver's time is virtual.
func Run(t *testing.T, pace Pace, around func(*testing.T, func(*testing.T)), open func(*testing.T) Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"announce, update, withdraw", (*suite).announce},
		{"a younger node of the name replaces", (*suite).replace},
		{"a node cut off while it was replaced", (*suite).replaceCutOff},
		{"a killed node vanishes with its lease", (*suite).kill},
		{"a node whose lease ended by mistake", (*suite).expire},
		{"a node announced as it withdraws", (*suite).reuseName},
		{"watchers begin and end", (*suite).watchers},
		{"rows change by compare-and-swap", (*suite).swap},
		{"rows change while members are absent", (*suite).absent},
		{"rows change while members are present", (*suite).present},
		{"rows change without a leader", (*suite).swapAlone},
		{"rows change by the faster of two", (*suite).race},
		{"many rows change at a time", (*suite).many},
		{"rows are read as they are", (*suite).read},
		{"holders change by compare-and-swap", (*suite).swapHolders},
		{"holders change while members are absent, or present", (*suite).holdersOfMembers},
		{"many holders change at a time", (*suite).manyHolders},
		{"an outage changes no holders", (*suite).holdersInOutage},
		{"renewals are told", (*suite).renewed},
		{"a cluster has one id", (*suite).clusterID},
		{"one secret is shared", (*suite).secret},
		{"one leader at a time", (*suite).elect},
		{"a leader that was cut off", (*suite).depose},
		{"a leader that was killed", (*suite).inherit},
		{"views only move forward", (*suite).forward},
		{"an outage changes no view", (*suite).outage},
		{"starting in an outage", (*suite).startInOutage},
		{"cut off while starting", (*suite).cutWhileStarting},
		{"leaving in an outage", (*suite).leaveInOutage},
	} {
		t.Run(c.name, func(t *testing.T) {
			around(t, func(t *testing.T) {
				t.Helper()
				c.test(&suite{T: t, Pace: pace, store: open(t), dead: pace.Lease + acted})
			})
		})
	}
}

// suite is one case with its store.
type suite struct {
	*testing.T
	Pace
	store Store
	dead  time.Duration // when a node that was cut off must have vanished
}

// limit returns a channel on which the time by which something must have
// happened comes.
func (s *suite) limit(within time.Duration) <-chan time.Time { return time.After(within + s.Patience) }

// node returns a broker's node.
func node(name, id string) membership.Node {
	return membership.Node{
		Name: name, ID: id, Roles: []membership.Role{membership.Broker, membership.Edge},
		Addr: name + ":7070", Zone: "a",
	}
}

// registered is a Register call under way.
type registered struct {
	updates chan membership.Node
	stop    context.CancelFunc
	ended   chan struct{}
	err     error // set before ended is closed
}

// register announces a node in the background, until the case ends.
func (s *suite) register(h Handle, n membership.Node) *registered {
	ctx, cancel := context.WithCancel(s.Context())
	r := &registered{updates: make(chan membership.Node), stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = h.Register(ctx, n, r.updates)
	}()
	s.Cleanup(func() { cancel(); <-r.ended })
	return r
}

// awaitEnd waits for the end of a Register and returns what it returned.
func (s *suite) awaitEnd(r *registered, within time.Duration) error {
	s.Helper()
	select {
	case <-r.ended:
	case <-s.limit(within):
		s.Fatalf("Register did not end within %v", within)
	}
	return r.err
}

// watch is a watcher that has seen something.
type watch struct {
	s     *suite
	views <-chan membership.View
	last  membership.View
}

func (s *suite) watch(h Handle) *watch { return &watch{s: s, views: h.Watch(s.Context())} }

// await takes views until one is as wanted.
func (w *watch) await(within time.Duration, want string, ok func(membership.View) bool) membership.View {
	w.s.Helper()
	if w.last.Table != nil && ok(w.last) {
		return w.last
	}
	limit := w.s.limit(within)
	for {
		select {
		case v, open := <-w.views:
			if !open {
				w.s.Fatalf("watch ended before %s", want)
			}
			if w.last = v; ok(v) {
				return v
			}
		case <-limit:
			w.s.Fatalf("not within %v: %s; last view: connected %v, nodes %v", within, want, w.last.Connected, w.last.Nodes)
		}
	}
}

// always takes views for a while and fails if one is not as wanted.
func (w *watch) always(during time.Duration, want string, ok func(membership.View) bool) {
	w.s.Helper()
	for limit := time.After(during); ; {
		if w.last.Table != nil && !ok(w.last) {
			w.s.Fatalf("not always: %s; view: connected %v, nodes %v", want, w.last.Connected, w.last.Nodes)
		}
		select {
		case v, open := <-w.views:
			if !open {
				w.s.Fatalf("watch ended while %s was wanted", want)
			}
			w.last = v
		case <-limit:
			return
		}
	}
}

func connected(v membership.View) bool    { return v.Connected }
func disconnected(v membership.View) bool { return !v.Connected }

// has says that exactly this node is announced under its name.
func has(nodes ...membership.Node) func(membership.View) bool {
	return func(v membership.View) bool {
		for _, n := range nodes {
			if got, ok := v.Node(n.Member()); !ok || got.Draining != n.Draining || v.Nodes[n.Name].ID != n.ID {
				return false
			}
		}
		return true
	}
}

func lacks(n membership.Node) func(membership.View) bool {
	return func(v membership.View) bool {
		_, ok := v.Node(n.Member())
		return !ok
	}
}

// lead campaigns and waits for the victory.
func (s *suite) lead(h Handle, name string, within time.Duration) membership.Leadership {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), within+s.Patience)
	defer cancel()
	l, err := h.Campaign(ctx, name)
	if err != nil {
		s.Fatalf("campaign as %s: %v", name, err)
	}
	s.Cleanup(func() { l.Resign(context.Background()) })
	return l
}

// row returns a row with one owner.
func row(term uint64, owner string, version int64) shard.Row {
	return shard.Row{
		Term: term, Primary: owner, InSync: []string{owner}, Replicas: []string{owner, "spare@2"},
		Base: term << 21, Version: version,
	}
}

// parallel runs n functions and waits for all.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}
