package edge

import (
	"hash/maphash"
	"slices"
	"sync"
)

// browsers counts, for each browser, the sessions that have a connect under
// way, so that tabs do not use up the browser's few connections.
type browsers struct {
	most int // below 0: no bound
	seed maphash.Seed

	mu sync.Mutex // leaf
	by map[browser][]*client
}

// browser is the hash of a browser's cookie, never 0.
type browser uint64

// enter counts a connect of a client; full says that other sessions of the
// browser have as many as may be held. leave is due for the browser it returns.
func (b *browsers) enter(cookie string, c *client) (counted browser, full bool) {
	if cookie == "" || b.most < 0 {
		return 0, false
	}
	x := browser(max(maphash.String(b.seed, cookie), 1))
	b.mu.Lock()
	defer b.mu.Unlock()
	connects := b.by[x]
	if othersAmong(connects, c) >= b.most {
		return 0, true // it will not be held, so it does not count
	}
	if b.by == nil {
		b.by = map[browser][]*client{}
	}
	b.by[x] = append(connects, c)
	return x, false
}

// othersAmong counts the other clients in a list that has some of them several
// times.
func othersAmong(connects []*client, c *client) int {
	others := 0
	for i, other := range connects {
		if other != c && !slices.Contains(connects[:i], other) {
			others++
		}
	}
	return others
}

// leave ends the counting of a connect; it does nothing for none.
func (b *browsers) leave(x browser, c *client) {
	if x == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	connects := b.by[x]
	if i := slices.Index(connects, c); i >= 0 {
		connects = slices.Delete(connects, i, i+1)
	}
	if len(connects) == 0 {
		delete(b.by, x)
		return
	}
	b.by[x] = connects
}
