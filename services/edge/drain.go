package edge

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/comet-push/comet/services/edge/internal/session"
)

// drainInterval is the pause asked of a client that is sent away: short, since
// it is to find another edge, random, so that not all come at once.
func (s *Service) drainInterval() time.Duration {
	const least, spread = 100 * time.Millisecond, 900 * time.Millisecond
	return least + rand.N(spread)
}

// fullInterval is the pause asked of a client for which there is no room.
func (s *Service) fullInterval() time.Duration {
	const least, spread = 2 * time.Second, 8 * time.Second
	return least + rand.N(spread)
}

// drainRate is how many clients are sent away in a second, if there is the time.
const drainRate = 1000

// comeBack is how long a session that was sent away, but is owed something,
// waits for its client to fetch it.
const comeBack = 2 * time.Second

// drainAll sends the clients away evenly over the window, leaves their sessions to
// other edges once nothing of them is under way, and the rest when the time is up.
// Handshakes are refused meanwhile. It stops at once if ctx ends.
func (s *Service) drainAll(ctx context.Context) {
	timely, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		s.sendAway(timely)
	}()
	s.part(timely, told)
	if ctx.Err() == nil {
		s.endRest(ctx)
	}
}

// endRest ends the sessions that are still here, and waits for the last answers.
func (s *Service) endRest(ctx context.Context) {
	for c := range s.registry.all() {
		if s.arrivals.records.Kept(c.session.PublicID()) {
			c.deposit()
		}
		c.end(session.Drained) // answers whatever it has
	}
	last, cancel := context.WithTimeout(ctx, s.cfg.WriteTimeout)
	defer cancel()
	s.unanswered.wait(last)
}

// part lets go of the sessions whose clients have been sent away, until there are
// none left and all have been told.
func (s *Service) part(ctx context.Context, told <-chan struct{}) {
	const every = 50 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	logged := time.Now()
	var late time.Time // zero: not all are told
	for {
		s.sweep(!late.IsZero(), !late.IsZero() && time.Now().After(late))
		if !late.IsZero() && s.registry.len()+s.sockets.len() == 0 {
			return
		}
		if time.Since(logged) >= drainLogged {
			logged = time.Now()
			s.logger.Info("drains", s.standing())
		}
		select {
		case <-tick.C:
		case <-told:
			late, told = time.Now().Add(comeBack), nil
		case <-ctx.Done():
			if told != nil {
				<-told // it sees that, too
			}
			return
		}
	}
}

// sweep lets go of the sessions that it can let go of. If all were told, those that
// were not are here since then: their clients asked for something other than a
// connect, and are sent away, too.
func (s *Service) sweep(told, hadTime bool) {
	for c := range s.registry.all() {
		if told && !c.drains() {
			c.drain(s.drainInterval())
		}
		c.part(hadTime)
	}
}

// drains reports whether the client has been sent away.
func (c *client) drains() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session.Draining()
}

// part lets go of a session that drains and waits for no answer, nor for a pong: it is left to the
// next edge or, where nobody keeps records, ended if it had its time or has
// nothing left to be told.
func (c *client) part(hadTime bool) {
	kept := c.service.arrivals.records.Kept(c.session.PublicID())
	c.mu.Lock()
	busy := !c.session.Draining() || len(c.exchanges) > 0 || c.publishes.Load() > 0 ||
		c.socket != nil && c.session.Unconfirmed()
	owed := c.session.Queued() > 0
	c.mu.Unlock()
	switch {
	case busy:
	case kept:
		c.deposit()
	case hadTime || !owed:
		c.end(session.Drained)
	}
}

func (s *Service) sendAway(ctx context.Context) {
	all := s.drainers()
	s.drain.clients.Store(int64(len(all)))
	// Not more in a second than other edges take easily, if there is the time.
	window := min(max(s.cfg.DrainWindow, time.Duration(len(all))*time.Second/drainRate), max(s.cfg.DrainTimeout/2, s.cfg.DrainWindow))
	start := time.Now()
	for i, each := range all {
		due := start.Add(window * time.Duration(i) / time.Duration(len(all)))
		if wait := time.Until(due); wait > time.Millisecond {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
		}
		each.drain(s.drainInterval())
		s.drain.told.Add(1)
	}
}

// drainer is what is sent away: a client with all it has open, a WebSocket, or a
// request that reads plain channels.
type drainer interface {
	drain(interval time.Duration)
	// resumable reports whether its client can go on where it was.
	resumable() bool
}

// resumable reports whether the session goes on elsewhere, with all that is on
// its way.
func (c *client) resumable() bool {
	kept := c.service.arrivals.records.Kept(c.session.PublicID())
	c.mu.Lock()
	defer c.mu.Unlock()
	return kept && c.session.Resumable()
}

// resumable is true: readers have cursors.
func (r *reader) resumable() bool { return true }

// resumable is false: it has no session.
func (k *socket) resumable() bool { return false }

// drainers returns what there is in random order, those that can go on where they
// were first: the others then have the more time for what is on its way.
func (s *Service) drainers() []drainer {
	var all []drainer
	for c := range s.registry.all() {
		all = append(all, c)
	}
	for _, k := range s.sockets.list() {
		if k.client.Load() == nil {
			all = append(all, k)
		}
	}
	for _, r := range s.plain.readers.all() {
		all = append(all, r)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	first, last := make([]drainer, 0, len(all)), []drainer{}
	for _, d := range all {
		if d.resumable() {
			first = append(first, d)
		} else {
			last = append(last, d)
		}
	}
	return append(first, last...)
}

// closeSockets ends what WebSockets there are at once.
func (s *Service) closeSockets() {
	for _, k := range s.sockets.list() {
		k.cut()
	}
}

// inFlight counts exchanges that are not answered, or whose answers are on
// their way.
type inFlight struct {
	mu   sync.Mutex // leaf
	n    int
	none chan struct{} // closed when n becomes 0; nil while nobody waits
}

func (f *inFlight) add() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
}

func (f *inFlight) done() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.n == 0 && f.none != nil {
		close(f.none)
		f.none = nil
	}
}

// wait waits until there are none, or ctx ends.
func (f *inFlight) wait(ctx context.Context) {
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return
	}
	if f.none == nil {
		f.none = make(chan struct{})
	}
	none := f.none
	f.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}
