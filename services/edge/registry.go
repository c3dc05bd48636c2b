package edge

import (
	"crypto/sha256"
	"encoding/base32"
	"iter"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/comet-push/comet/services/edge/internal/clientid"
)

// registry is the sessions of an edge. One map serves the clientId and the
// public id: the latter ends with the key that a hash makes of the former, so
// it tells nothing about it.
type registry struct {
	most   int64
	count  atomic.Int64 // sessions
	shards [64]clients  // by the key's first byte

	readers atomic.Int64 // requests that read plain channels, which take room, too
}

// key is what a clientId is known by.
type key [16]byte

type clients struct {
	mu sync.RWMutex // leaf
	by map[key]*client
}

func newRegistry(most int) *registry { return &registry{most: int64(most)} }

func keyOf(id string) (k key) {
	hash := sha256.Sum256([]byte(id))
	copy(k[:], hash[:])
	return k
}

// publicID returns the public id of a well-formed clientId.
func publicID(id string) string {
	k := keyOf(id)
	return clientid.Hint(id) + "-" + publicText().EncodeToString(k[:])
}

func publicText() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

func (r *registry) shard(k key) *clients { return &r.shards[int(k[0])%len(r.shards)] }

// reserve takes the room of one session, if there is some.
func (r *registry) reserve() bool { return r.take(&r.count) }

// take takes the room of one of those that are counted.
func (r *registry) take(counted *atomic.Int64) bool {
	counted.Add(1)
	if r.count.Load()+r.readers.Load() > r.most {
		counted.Add(-1)
		return false
	}
	return true
}

// add makes a client known, for which room was reserved.
func (r *registry) add(c *client) {
	k := keyOf(c.session.ID())
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[key]*client{}
	}
	if s.by[k] != nil { // it is about to be removed
		r.count.Add(-1)
	}
	s.by[k] = c
}

// remove forgets a client and reports whether it was known.
func (r *registry) remove(c *client) bool {
	k := keyOf(c.session.ID())
	s := r.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[k] != c { // it came back meanwhile, or never was here
		return false
	}
	delete(s.by, k)
	r.count.Add(-1)
	return true
}

// find returns the client of a clientId, or nil.
func (r *registry) find(id string) *client { return r.get(keyOf(id)) }

// findPublic returns the client of a public id, or nil.
func (r *registry) findPublic(id string) *client {
	_, text, _ := strings.Cut(id, "-")
	raw, err := publicText().DecodeString(text)
	if err != nil || len(raw) != len(key{}) {
		return nil
	}
	if c := r.get(key(raw)); c != nil && c.session.PublicID() == id {
		return c
	}
	return nil
}

func (r *registry) get(k key) *client {
	s := r.shard(k)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[k]
}

func (r *registry) len() int { return int(r.count.Load()) }

// all iterates over the clients; those that come or go meanwhile may be missed.
func (r *registry) all() iter.Seq[*client] {
	return func(yield func(*client) bool) {
		for i := range r.shards {
			for _, c := range r.shards[i].list() {
				if !yield(c) {
					return
				}
			}
		}
	}
}

func (s *clients) list() []*client {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*client, 0, len(s.by))
	for _, c := range s.by {
		list = append(list, c)
	}
	return list
}
