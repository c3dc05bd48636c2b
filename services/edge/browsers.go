package edge

import "sync"

// browsers counts, for each browser, the sessions that have a connect under
// way, so that tabs do not use up the browser's few connections.
type browsers struct {
	most int // below 0: no bound

	mu sync.Mutex // leaf
	by map[string]*browser
}

type browser struct {
	cookie   string
	connects map[*client]int
}

// enter counts a connect of a client; full says that other sessions of the
// browser have as many as may be held. leave is due for the browser it returns.
func (b *browsers) enter(cookie string, c *client) (counted *browser, full bool) {
	if cookie == "" || b.most < 0 {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.by[cookie]
	if x == nil {
		x = &browser{cookie: cookie, connects: map[*client]int{}}
		if b.by == nil {
			b.by = map[string]*browser{}
		}
		b.by[cookie] = x
	}
	others := len(x.connects)
	if x.connects[c] > 0 {
		others--
	}
	if others >= b.most {
		if len(x.connects) == 0 {
			delete(b.by, cookie)
		}
		return nil, true // it will not be held, so it does not count
	}
	x.connects[c]++
	return x, false
}

func (b *browsers) leave(x *browser, c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x.connects[c]--; x.connects[c] > 0 {
		return
	}
	delete(x.connects, c)
	if len(x.connects) == 0 {
		delete(b.by, x.cookie)
	}
}
