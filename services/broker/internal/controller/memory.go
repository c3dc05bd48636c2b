package controller

import (
	"sync"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// memory knows where members were last announced, also while another leads: a
// member that is silent now must be asked at its address.
type memory struct {
	mu    sync.Mutex
	nodes map[string]membership.Node // by member
}

func (m *memory) follow(views <-chan membership.View) {
	for v := range views {
		m.see(v)
	}
}

// see remembers the brokers of a view, and forgets those that are neither
// announced nor owners.
func (m *memory) see(v membership.View) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := map[string]membership.Node{}
	for n := range shard.Slot(shard.Slots) {
		owner := v.Table.Row(n).Primary
		if node, ok := m.nodes[owner]; ok {
			nodes[owner] = node
		}
	}
	for _, node := range v.With(membership.Broker) {
		nodes[node.Member()] = node
	}
	m.nodes = nodes
}

func (m *memory) node(member string) (membership.Node, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[member]
	return n, ok
}
