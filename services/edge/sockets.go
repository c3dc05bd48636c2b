package edge

import (
	"maps"
	"slices"
	"sync"
)

// sockets are the WebSockets of an edge, by number.
type sockets struct {
	most int

	mu sync.RWMutex // leaf
	by map[uint64]*socket
}

// add makes a socket known, if there is room for one.
func (s *sockets) add(k *socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.by) >= s.most {
		return false
	}
	if s.by == nil {
		s.by = map[uint64]*socket{}
	}
	s.by[k.stream.Number()] = k
	return true
}

func (s *sockets) remove(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, k.stream.Number())
}

func (s *sockets) find(number uint64) *socket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[number]
}

func (s *sockets) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.by)
}

// list returns those that are open now.
func (s *sockets) list() []*socket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.by))
}
