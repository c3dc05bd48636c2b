package report

import "time"

const (
	// confirmEvery is how long a record waits for others that are to be confirmed.
	confirmEvery = 2 * time.Millisecond
	// confirmWithin is how long it is waited for.
	confirmWithin = 250 * time.Millisecond
)

// confirmation waits until presence has the record of a session.
type confirmation struct {
	done  func(kept bool) // nil once it was called
	open  int             // nodes that have not answered
	kept  bool            // one has it
	until time.Time
}

// Confirm has presence told where a session stands, at once, and says when every
// node that holds its shard and can be reached has kept that (kept), or none of
// them has, or they took longer than 250 ms. It reports whether there is such a
// node; if not, done is not called. It may be called under any lock; done is
// called under none.
func (r *Reporter) Confirm(session string, done func(kept bool)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &confirmation{done: done, until: time.Now().Add(confirmWithin)}
	for f := range r.feeds {
		if f.holds(session) && f.dirty != nil {
			f.confirm(session, c)
			c.open++
		}
	}
	if c.open == 0 {
		return false
	}
	if r.waiting = append(r.waiting, c); len(r.waiting) == 1 {
		time.AfterFunc(confirmWithin, r.expire)
	}
	return true
}

// confirm marks a session for whoever waits until its record is kept.
func (f *feed) confirm(session string, c *confirmation) {
	m := f.dirty[session]
	m.resumed, m.confirms = true, append(m.confirms, c)
	if f.dirty[session] = m; !f.urgent {
		f.urgent = true
		f.signal()
	}
}

// settle says what became of what a node was to keep.
func (r *Reporter) settle(confirms []*confirmation, kept bool) {
	if len(confirms) == 0 {
		return
	}
	ready := confirms[:0]
	r.mu.Lock()
	for _, c := range confirms {
		c.open--
		if c.kept = c.kept || kept; c.open == 0 && c.done != nil {
			ready = append(ready, c)
		}
	}
	calls := finish(ready)
	r.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// finish ends confirmations; what it returns is to be called without the lock.
func finish(confirms []*confirmation) (calls []func()) {
	for _, c := range confirms {
		done, kept := c.done, c.kept && c.open == 0
		c.done = nil
		calls = append(calls, func() { done(kept) })
	}
	return calls
}

// expire ends the confirmations that took too long.
func (r *Reporter) expire() {
	now := time.Now()
	r.mu.Lock()
	n := 0
	var late []*confirmation
	for n < len(r.waiting) && !now.Before(r.waiting[n].until) {
		if r.waiting[n].done != nil {
			late = append(late, r.waiting[n])
		}
		n++
	}
	clear(r.waiting[:n])
	r.waiting = r.waiting[n:]
	if len(r.waiting) > 0 {
		time.AfterFunc(r.waiting[0].until.Sub(now), r.expire)
	} else {
		r.waiting = nil
	}
	calls := finish(late)
	r.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// abandon ends what waits for a node that has no stream any more.
func (r *Reporter) abandon(f *feed) {
	r.mu.Lock()
	var confirms []*confirmation
	for _, m := range f.dirty {
		confirms = append(confirms, m.confirms...)
	}
	f.dirty = nil
	r.mu.Unlock()
	r.settle(confirms, false)
}
