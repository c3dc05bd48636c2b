package edge

import (
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
)

// registry is the sessions of an edge, by clientId and by public id.
type registry struct {
	most  int64
	seed  maphash.Seed
	count atomic.Int64

	clients [shards]clients // by clientId
	public  [shards]clients // by public id
}

const shards = 64

type clients struct {
	mu sync.RWMutex // leaf
	by map[string]*client
}

func newRegistry(most int) *registry {
	return &registry{most: int64(most), seed: maphash.MakeSeed()}
}

func (r *registry) shard(of *[shards]clients, id string) *clients {
	return &of[maphash.String(r.seed, id)%shards]
}

// reserve takes the room of one session, if there is some.
func (r *registry) reserve() bool {
	if r.count.Add(1) > r.most {
		r.count.Add(-1)
		return false
	}
	return true
}

// add makes a client known, for which room was reserved.
func (r *registry) add(c *client) {
	r.shard(&r.clients, c.id).put(c.id, c)
	r.shard(&r.public, c.publicID).put(c.publicID, c)
}

// remove forgets a client and reports whether it was known.
func (r *registry) remove(c *client) bool {
	if !r.shard(&r.clients, c.id).drop(c.id) {
		return false
	}
	r.shard(&r.public, c.publicID).drop(c.publicID)
	r.count.Add(-1)
	return true
}

func (r *registry) find(id string) *client { return r.shard(&r.clients, id).get(id) }

func (r *registry) findPublic(id string) *client { return r.shard(&r.public, id).get(id) }

func (r *registry) len() int { return int(r.count.Load()) }

// all iterates over the clients; those that come or go meanwhile may be missed.
func (r *registry) all() iter.Seq[*client] {
	return func(yield func(*client) bool) {
		for i := range r.clients {
			for _, c := range r.clients[i].list() {
				if !yield(c) {
					return
				}
			}
		}
	}
}

func (s *clients) put(id string, c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string]*client{}
	}
	s.by[id] = c
}

func (s *clients) get(id string) *client {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[id]
}

func (s *clients) drop(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.by[id]
	delete(s.by, id)
	return ok
}

func (s *clients) list() []*client {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*client, 0, len(s.by))
	for _, c := range s.by {
		list = append(list, c)
	}
	return slices.Clip(list)
}
