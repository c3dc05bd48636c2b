package hub

import (
	"sync"
	"time"
)

// lingering is the topics that stay joined for a while although nobody
// subscribes to them, in the order in which they were left.
type lingering[S Subscriber] struct {
	mu             sync.Mutex // leaf: taken with the lock of a place held
	oldest, newest *topic[S]
	n              int
}

// links are a topic's place in lingering. Guarded by its lock.
type links[S Subscriber] struct {
	older, newer *topic[S]
	listed       bool
	left         int64 // nanoseconds since 1970; 0: since the last sweep
}

// add lets a topic linger, and returns the oldest if it makes them too many.
func (l *lingering[S]) add(t *topic[S], most int) (over *topic[S]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(t)
	l.link(t)
	if l.n <= most {
		return nil
	}
	over = l.oldest
	l.unlink(over)
	return over
}

// touch begins the time of a topic anew if it lingers.
func (l *lingering[S]) touch(t *topic[S]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.links.listed {
		l.unlink(t)
		l.link(t)
	}
}

func (l *lingering[S]) remove(t *topic[S]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(t)
}

func (l *lingering[S]) holds(t *topic[S]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return t.links.listed
}

func (l *lingering[S]) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// sweep takes out the topics that were left before a time. Their time begins
// with the first sweep, so that nobody who leaves needs a clock.
func (l *lingering[S]) sweep(now time.Time, before time.Time) (swept []*topic[S]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := l.newest; t != nil && t.links.left == 0; t = t.links.older {
		t.links.left = now.UnixNano()
	}
	for t := l.oldest; t != nil && t.links.left <= before.UnixNano(); t = l.oldest {
		l.unlink(t)
		swept = append(swept, t)
	}
	return swept
}

func (l *lingering[S]) link(t *topic[S]) {
	t.links = links[S]{older: l.newest, listed: true}
	if l.newest == nil {
		l.oldest = t
	} else {
		l.newest.links.newer = t
	}
	l.newest = t
	l.n++
}

func (l *lingering[S]) unlink(t *topic[S]) {
	if !t.links.listed {
		return
	}
	if older := t.links.older; older == nil {
		l.oldest = t.links.newer
	} else {
		older.links.newer = t.links.newer
	}
	if newer := t.links.newer; newer == nil {
		l.newest = t.links.older
	} else {
		newer.links.older = t.links.older
	}
	t.links = links[S]{}
	l.n--
}
