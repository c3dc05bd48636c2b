package controller

import (
	"sync"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// memory knows where members were last announced, also while another leads: a
// member that is silent now must be asked at its address.
type memory struct {
	mu    sync.Mutex
	nodes map[string]membership.Node // by member
	since time.Time                  // the store has been in reach since then; zero: it is not
}

func (m *memory) follow(views <-chan membership.View) {
	for v := range views {
		m.see(v, time.Now())
	}
}

// see remembers the brokers of a view, and forgets those that are neither
// announced nor hold a slot.
func (m *memory) see(v membership.View, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !v.Connected:
		m.since = time.Time{}
	case m.since.IsZero():
		m.since = now
	}
	nodes := map[string]membership.Node{}
	for n := range shard.Slot(shard.Slots) {
		for _, member := range holders(v.Table.Row(n)) {
			if node, ok := m.nodes[member]; ok {
				nodes[member] = node
			}
		}
	}
	for _, node := range v.With(membership.Broker) {
		nodes[node.Member()] = node
	}
	m.nodes = nodes
}

// steady is since when the store has been in reach without a gap.
func (m *memory) steady(now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.since.IsZero() {
		return now
	}
	return m.since
}

func (m *memory) node(member string) (membership.Node, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[member]
	return n, ok
}

// holders are the members that may hold what a slot committed.
func holders(row shard.Row) []string {
	if row.Primary == "" {
		return row.InSync
	}
	return append([]string{row.Primary}, row.InSync...)
}
