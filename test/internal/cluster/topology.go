package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Topology is a Comet taken apart: every service its own process, and an etcd.
type Topology struct {
	Etcd     *Etcd
	Edges    []*Process
	Brokers  []*Process
	Presence []*Process

	startPresence func()
}

// Alone starts one process that serves everything.
func Alone(t testing.TB, args ...string) *Process {
	t.Helper()
	p := New(t, "alone", "all", append([]string{"--config=" + Config(t, Open)}, args...)...)
	p.Start(t)
	p.Ready(t, 30*time.Second)
	return p
}

// Dev starts one process as a new user does: with the demo page, and open.
func Dev(t testing.TB) *Process {
	t.Helper()
	p := New(t, "dev", "all")
	p.args = []string{
		"dev", "--edge.listen=" + p.HTTP, "--grpc.listen=" + p.GRPC, "--internal.listen=" + p.Internal,
	}
	p.Start(t)
	p.Ready(t, 30*time.Second)
	return p
}

// Split starts an etcd and the services apart, and waits until all are ready.
func Split(t testing.TB, edges, brokers int, args ...string) *Topology {
	t.Helper()
	return split(t, edges, brokers, func() []string { return nil }, args)
}

// Durable is Split with brokers that have a data directory each.
func Durable(t testing.TB, edges, brokers int, args ...string) *Topology {
	t.Helper()
	return split(t, edges, brokers, func() []string { return []string{"--broker.data-dir=" + t.TempDir()} }, args)
}

// split starts brokers with arguments of their own.
func split(t testing.TB, edges, brokers int, own func() []string, args []string) *Topology {
	t.Helper()
	c := &Topology{Etcd: NewEtcd(t)}
	c.Etcd.Start(t)
	args = append([]string{"--config=" + Config(t, Open), "--etcd.endpoints=" + c.Etcd.URL}, args...)
	start := func(name, target string, own ...string) *Process {
		p := New(t, name, target, slices.Concat(args, own)...)
		p.Start(t)
		return p
	}
	for i := range brokers {
		c.Brokers = append(c.Brokers, start(fmt.Sprintf("broker-%d", i), "broker", own()...))
	}
	c.startPresence = func() {
		c.Presence = append(c.Presence, start(fmt.Sprintf("presence-%d", len(c.Presence)), "presence"))
	}
	c.startPresence()
	for i := range edges {
		c.Edges = append(c.Edges, start(fmt.Sprintf("edge-%d", i), "edge"))
	}
	for _, p := range c.All() {
		p.Ready(t, 60*time.Second)
	}
	return c
}

// AddPresence starts one more presence process.
func (c *Topology) AddPresence(t testing.TB) {
	t.Helper()
	c.startPresence()
	c.Presence[len(c.Presence)-1].Ready(t, 60*time.Second)
}

// All returns the processes.
func (c *Topology) All() []*Process {
	var all []*Process
	all = append(all, c.Brokers...)
	all = append(all, c.Presence...)
	return append(all, c.Edges...)
}

// Edge starts one more edge of its own config, which must name no other etcd.
func (c *Topology) Edge(t testing.TB, args ...string) *Process {
	t.Helper()
	p := New(t, fmt.Sprintf("edge-%d", Ports(t, 1)[0]), "edge", append(slices.Clip(args), "--etcd.endpoints="+c.Etcd.URL)...)
	p.Start(t)
	p.Ready(t, 60*time.Second)
	return p
}

// Settle waits until the brokers have the slots that they will keep, with all
// their copies.
func (c *Topology) Settle(t testing.TB) {
	t.Helper()
	const slots = 256
	Eventually(t, 2*time.Minute, "slots are spread", func() error {
		for _, p := range c.Brokers {
			led, err := p.Metric(`comet_broker_slots{role="primary"}`)
			if err != nil {
				return err
			}
			lacking, err := p.Metric("comet_broker_slots_under_replicated")
			if err != nil {
				return err
			}
			if led < float64(slots/len(c.Brokers)) || lacking > 0 {
				return fmt.Errorf("%s leads %v slots, and %v lack a copy", p.Name, led, lacking)
			}
		}
		return nil
	})
}
