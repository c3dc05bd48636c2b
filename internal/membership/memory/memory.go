// Package memory is the membership of a cluster that lives in one process: the
// directory of `comet dev`, and of tests, in which every fault of a real store
// can be caused.
//
//  1. All handles of one Store see one cluster, each with its own connection.
//  2. A handle that is cut off, or killed, keeps its leases for one lease from
//     then on; while the store itself is out no lease ends.
//  3. What was announced through a handle is announced again in the moment the
//     handle reaches the store again, before any other change is seen.
//  4. A handle can be frozen, as its process would be, and slow: then news are
//     old, and answers to changes that were applied may be lost.
//  5. Time is package time's, so all of it runs in a synctest bubble. No
//     goroutine outlives the call that needs it.
package memory

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// Store is what all nodes of a cluster share. Safe for concurrent use.
type Store struct {
	id    string
	lease time.Duration

	mu        sync.Mutex
	down      bool
	outage    *time.Timer // runs from the start of an outage to the end of leadership
	version   int64
	announced map[string]entry
	table     *shard.Table
	presence  *shard.HolderTable
	secret    []byte
	// secretVersion is that of secret, 0: there is none.
	secretVersion int64
	handles       []*Directory
	waiting       []*leadership // candidates, longest waiting first
	leader        *leadership
	trace         func(shard.Slot, shard.Row) // told of every row; nil: nobody
	effort        time.Duration               // of a change of a row
	free          time.Time                   // when those that came are made

	nodes map[string]membership.Node // what views show; replaced, never changed
}

// entry is one announced node and who keeps it announced.
type entry struct {
	node membership.Node
	by   *registration
}

// NewStore returns an empty store. Leases last as given, or for
// [membership.DefaultLease] if 0.
func NewStore(lease time.Duration) *Store {
	if lease == 0 {
		lease = membership.DefaultLease
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return &Store{id: hex.EncodeToString(id), lease: lease, announced: make(map[string]entry), table: &shard.Table{}, presence: &shard.HolderTable{}}
}

// Directory returns a new handle: the connection of one process.
func (s *Store) Directory() *Directory {
	d := &Directory{store: s, registrations: make(map[*registration]struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handles = append(s.handles, d)
	d.refreshLocked()
	return d
}

// Trace tells of all rows of slots, and of every one that is written from now
// on, in order. What is told must not call the store.
func (s *Store) Trace(tell func(shard.Slot, shard.Row)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = tell
	for n := range shard.Slot(shard.Slots) {
		tell(n, s.table.Row(n))
	}
}

// Labour makes every change of a row take so long, one after the other.
func (s *Store) Labour(each time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.effort = each
}

// Leader is the candidate that leads, or empty.
func (s *Store) Leader() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == nil {
		return ""
	}
	return s.leader.name
}

// Steady are the announced nodes that reach the store without delay, while the
// leader does so, too.
func (s *Store) Steady() (nodes []membership.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leader == nil || !s.leader.dir.steadyLocked() {
		return nil
	}
	for _, e := range s.announced {
		if e.by.dir.steadyLocked() {
			nodes = append(nodes, e.node)
		}
	}
	return nodes
}

// Disconnect begins an outage of the store for all handles, or ends it.
func (s *Store) Disconnect(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == down {
		return
	}
	for _, d := range s.handles {
		d.renewLocked()
	}
	s.down = down
	if down {
		s.outage = time.AfterFunc(s.lease, s.endOutlived)
	} else {
		s.outage.Stop()
	}
	for _, d := range s.handles {
		d.settleLocked()
	}
	s.publishLocked()
	s.electLocked()
}

// endOutlived ends a leadership that could not be renewed for a lease: its
// holder cannot know any more that nobody else leads.
func (s *Store) endOutlived() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down && s.leader != nil {
		s.leader.endLocked()
	}
}

// Expire ends the lease of a node, as the store does when it heard nothing of
// it. A node that is alive and connected announces itself again.
func (s *Store) Expire(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.announced[name]
	if !ok || s.down {
		return
	}
	e.by.dir.renewLocked()
	delete(s.announced, name)
	s.publishLocked()
	e.by.dir.settleLocked()
	s.publishLocked()
}

// lapse ends the leases of a handle that was out of reach for a lease.
func (s *Store) lapse(d *Directory) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down || d.reachesLocked() {
		return
	}
	maps.DeleteFunc(s.announced, func(_ string, e entry) bool { return e.by.dir == d })
	if s.leader != nil && s.leader.dir == d {
		s.leader.endLocked()
	}
	s.publishLocked()
	s.electLocked()
}

// publishLocked shows the present state to every handle that is connected.
func (s *Store) publishLocked() {
	s.nodes = make(map[string]membership.Node, len(s.announced))
	for name, e := range s.announced {
		s.nodes[name] = e.node
	}
	for _, d := range s.handles {
		d.refreshLocked()
	}
}

// electLocked gives a free leadership to who waited longest.
func (s *Store) electLocked() {
	if s.down || s.leader != nil {
		return
	}
	i := slices.IndexFunc(s.waiting, func(l *leadership) bool { return l.dir.reachesLocked() })
	if i < 0 {
		return
	}
	s.leader = s.waiting[i]
	s.waiting = slices.Delete(s.waiting, i, i+1)
	close(s.leader.elected)
}
