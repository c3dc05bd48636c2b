package edge

import (
	"sync"
	"time"
)

const (
	// endedFor is how long an edge remembers that a session ended here: longer
	// than presence takes to hear of it.
	endedFor = 30 * time.Second
	// endedMost bounds those that are remembered.
	endedMost = 1 << 16
)

// endings remembers sessions that ended here, by public id: until presence has
// heard of it its record would bring them back (CORRECTNESS S9).
type endings struct {
	mu    sync.Mutex // leaf
	by    map[string]struct{}
	order []ending // by when they ended
}

type ending struct {
	session string
	at      time.Time
}

func (e *endings) add(session string, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[string]struct{}{}
	}
	e.by[session] = struct{}{}
	e.order = append(e.order, ending{session, now})
	for len(e.order) > endedMost || now.Sub(e.order[0].at) > endedFor {
		delete(e.by, e.order[0].session)
		e.order = e.order[1:]
	}
}

func (e *endings) has(session string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ended := e.by[session]
	return ended
}
