// Package membership is the directory of a cluster: who is alive, which broker
// owns which slot, and which presence processes hold which shard. Two drivers, etcd and memory, pass one conformance
// suite (package membership/conformance).
//
//  1. A node is announced while its Register runs and its lease lives; a node
//     announced under the same name with another ID replaces the old one at once.
//  2. An outage of the store changes no view: watchers keep the last one, with
//     Connected false, and registered nodes announce themselves again, within
//     a second of the store's return. (Package membership/peers, around a
//     driver, shows newer rows that brokers know.)
//  3. Rows change only by compare-and-swap on their version: by the leader, and
//     those of slots by their primaries (Swap). Who leads, who is announced and
//     who is not can be made conditions of the same change.
//  4. Views only move forward: a row's version never goes down, unless the
//     store itself lost its data; then views show what it has now.
//  5. A change whose outcome is unknown may be applied at any later time, also
//     after Row was read, for as long as the row has the version that it
//     replaces. Only a newer version settles it: then Row has the outcome,
//     whoever wrote it. Who cannot wait writes the row again.
package membership

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// Role is what a node serves.
type Role string

// The roles.
const (
	Edge     Role = "edge"
	Broker   Role = "broker"
	Presence Role = "presence"
)

// Node is one process of the cluster.
type Node struct {
	// Name is stable over restarts where the platform's is (a StatefulSet's).
	Name string `json:"name"`
	// ID is 128 random bits in hex, new with every start; for a broker the
	// log-id of its empty log.
	ID string `json:"id"`
	// Roles are what it serves.
	Roles []Role `json:"roles"`
	// Addr is its private gRPC address, as other nodes dial it.
	Addr string `json:"addr"`
	// Zone is its failure domain, or empty.
	Zone string `json:"zone,omitempty"`
	// Draining is set when it is about to leave: give it nothing new, take
	// what it has.
	Draining bool `json:"draining,omitempty"`
	// Cordoned is set by an operator's order: give it no slots, take what it has.
	// Unlike one that drains it stays, so its silence is no sign of its end.
	Cordoned bool `json:"cordoned,omitempty"`
	// EdgeDraining is set by an operator's order: its edge sends its clients away
	// and takes none, as if the process were Draining; its other roles go on.
	EdgeDraining bool `json:"edge_draining,omitempty"`
	// Durable: what it acknowledged outlives its process, on a disk; the log-id
	// comes back with it.
	Durable bool `json:"durable,omitempty"`
}

// Member is the node as rows name it: name@id.
func (n Node) Member() string { return n.Name + "@" + n.ID }

// EdgeLeaves reports whether sessions are not to go, or stay, at its edge.
func (n Node) EdgeLeaves() bool { return n.Draining || n.EdgeDraining }

// Has reports whether the node serves a role.
func (n Node) Has(r Role) bool { return slices.Contains(n.Roles, r) }

// View is a snapshot of the directory. It is immutable.
type View struct {
	// Nodes are the announced nodes by name.
	Nodes map[string]Node
	// Table says who owns the slots.
	Table *shard.Table
	// Presence says who holds the presence shards.
	Presence *shard.HolderTable
	// Connected is false while the store cannot be reached.
	Connected bool
}

// Node returns the node that is a member, if it is announced.
func (v View) Node(member string) (Node, bool) {
	name, id, _ := strings.Cut(member, "@")
	n, ok := v.Nodes[name]
	return n, ok && n.ID == id
}

// With returns the announced nodes of a role, by name.
func (v View) With(r Role) []Node {
	var nodes []Node
	for _, n := range v.Nodes {
		if n.Has(r) {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return nodes
}

// Directory is what nodes know of each other. Safe for concurrent use.
type Directory interface {
	// Watch returns a channel that holds the newest view; views that nobody
	// took in time are replaced by newer ones. The first one comes once the
	// store has answered. The channel is closed when ctx ends.
	Watch(ctx context.Context) <-chan View
	// Register announces a node until ctx ends, then withdraws it. It goes on
	// through outages of the store. A node sent on updates replaces the
	// announced one (same name and ID). It returns nil when ctx ended, and
	// ErrReplaced when another ID was announced under the name.
	Register(ctx context.Context, n Node, updates <-chan Node) error
	// Campaign waits until this candidate leads the cluster, or ctx ends.
	Campaign(ctx context.Context, candidate string) (Leadership, error)
	// Swap applies one change of a row that needs no leader, and returns the
	// row's new version; ErrConflict if a condition of it does not hold. Other
	// errors: unknown whether it was, or will be, applied (fact 5).
	Swap(ctx context.Context, c Change) (version int64, err error)
	// Row reads a slot's row as it is in the store now, not in a view: at least
	// as new as every change that was applied before the call. The zero Row if
	// there is none.
	Row(ctx context.Context, s shard.Slot) (shard.Row, error)
	// Renewed is when the newest renewal that succeeded of a node's lease was
	// sent, and found the node announced; zero before the first. Its clock is
	// monotonic. While the store cannot be reached it stands still.
	Renewed() time.Time
	// ClusterID returns the random id of this cluster, 32 hex digits, made by
	// the first who asks; it is lost with the store's data.
	ClusterID(ctx context.Context) (string, error)
	// Secret reads what the nodes of the cluster know and nobody else, and its
	// version; nothing and 0 if nobody has written any.
	Secret(ctx context.Context) (text []byte, version int64, err error)
	// SetSecret replaces the secret of a version; ErrConflict if that is not its
	// version any more.
	SetSecret(ctx context.Context, text []byte, version int64) error
}

// Leadership is the right to write all rows.
type Leadership interface {
	// Lost is closed when the leadership may have ended.
	Lost() <-chan struct{}
	// Write applies one change; ErrConflict if a condition of it does not hold,
	// ErrNotLeader if another candidate leads. Other errors: unknown whether
	// it was, or will be, applied (fact 5).
	Write(ctx context.Context, c Change) error
	// WriteHolders does the same with the row of a presence shard.
	WriteHolders(ctx context.Context, c HoldersChange) error
	// Resign gives the leadership up.
	Resign(ctx context.Context)
}

// Change is one compare-and-swap of a slot's row.
type Change struct {
	// Slot is the row to write.
	Slot shard.Slot
	// Row is what to write; its Version is the one it replaces, 0 for a row
	// that does not exist.
	Row shard.Row
	// Absent are members that must not be announced for the change to apply,
	// Present those that must be.
	Absent, Present []string
}

// HoldersChange is one compare-and-swap of a presence shard's row.
type HoldersChange struct {
	// Shard is the row to write.
	Shard shard.PresenceShard
	// Holders are what to write; their Version is the one they replace, 0 for a
	// row that does not exist.
	Holders shard.Holders
	// Absent and Present are as in [Change].
	Absent, Present []string
}

// The errors of directories.
var (
	ErrReplaced  = errors.New("another node was announced under the same name")
	ErrConflict  = errors.New("the row or a member changed meanwhile")
	ErrNotLeader = errors.New("not the leader")
)

// DefaultLease is how long a node stays announced without a sign of life.
const DefaultLease = 3 * time.Second
