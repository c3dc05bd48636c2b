package edge

import "sync"

// readers is the requests that read plain channels, by number.
type readers [64]readerList

type readerList struct {
	mu   sync.Mutex // leaf
	list []*reader  // each knows its place
}

func (a *readers) shard(r *reader) *readerList { return &a[r.number()%uint64(len(a))] }

func (a *readers) add(r *reader) {
	s := a.shard(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.place = int32(len(s.list))
	s.list = append(s.list, r)
}

func (a *readers) remove(r *reader) {
	s := a.shard(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.list) - 1
	s.list[r.place] = s.list[last]
	s.list[r.place].place = r.place
	s.list[last] = nil
	s.list = s.list[:last]
}

// all returns the readers; those that come or go meanwhile may be missed.
func (a *readers) all() (all []*reader) {
	for i := range a {
		s := &a[i]
		s.mu.Lock()
		all = append(all, s.list...)
		s.mu.Unlock()
	}
	return all
}
