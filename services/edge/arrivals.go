package edge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/records"
)

const (
	// arrivalPatience is how long a request waits until it is known where its
	// session is. Clients wait longer.
	arrivalPatience = 8 * time.Second
	// arrivalsAtWork is how many sessions are looked for, or brought here, at a
	// time.
	arrivalsAtWork = 256
)

// visitor is a request whose session is not here. One of its methods is called,
// once.
type visitor interface {
	// here says that the session was brought here.
	here(c *client)
	// elsewhere says which edge is its home.
	elsewhere(home membership.Node)
	// unknown says that there is no such session.
	unknown()
	// unavailable says that nobody knows now.
	unavailable()
}

// arrivals finds out where sessions are that clients ask for here, and brings
// those here that have no home any more, or that are to have their home here: it
// claims them, takes them over from the home they had, or from what is recorded of
// them, and lets those who asked for them in (CORRECTNESS rules 6 and 17).
type arrivals struct {
	service *Service
	records *records.Client
	atWork  chan struct{}
	running sync.WaitGroup

	mu  sync.Mutex          // leaf
	ctx context.Context     //nolint:containedctx // of run, under which sessions are looked for
	by  map[string]*arrival // by clientId
}

// arrival is a session that is looked for.
type arrival struct {
	browser string    // of the first visitor
	waiting []visitor // in the order in which they came
	settle  bool      // it is to have its home here, wherever it is
}

func newArrivals(s *Service, r *records.Client) *arrivals {
	return &arrivals{
		service: s, records: r, atWork: make(chan struct{}, arrivalsAtWork), by: map[string]*arrival{},
	}
}

// run lets arrivals happen until ctx ends.
func (a *arrivals) run(ctx context.Context) error {
	a.mu.Lock()
	a.ctx = ctx
	a.mu.Unlock()
	<-ctx.Done()
	a.running.Wait()
	return nil
}

// ask has a visitor told where its session is. settle: it is to be brought here.
func (a *arrivals) ask(clientID, browser string, settle bool, v visitor) {
	if !a.join(clientID, browser, settle, v) {
		v.unavailable()
	}
}

func (a *arrivals) join(clientID, browser string, settle bool, v visitor) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if x := a.by[clientID]; x != nil {
		if len(x.waiting) >= a.service.cfg.Requests {
			return false
		}
		x.waiting, x.settle = append(x.waiting, v), x.settle || settle
		return true
	}
	if a.ctx == nil || a.ctx.Err() != nil || len(a.by) >= a.service.cfg.MaxSessions {
		return false
	}
	a.by[clientID] = &arrival{browser: browser, waiting: []visitor{v}, settle: settle}
	ctx := a.ctx
	a.running.Go(func() {
		whereabouts, err := a.find(ctx, clientID)
		if err != nil && !errors.Is(err, records.ErrUnknown) {
			a.service.logger.Warn("it cannot be found out where a session is",
				slog.String("session", publicID(clientID)), slog.Any("error", err))
		}
		for _, v := range a.done(clientID) {
			whereabouts.tell(v, err)
		}
	})
	return true
}

// done ends the search for a session.
func (a *arrivals) done(clientID string) []visitor {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := a.by[clientID].waiting
	delete(a.by, clientID)
	return waiting
}

// expects reports whether a session is looked for, or brought here.
func (a *arrivals) expects(clientID string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by[clientID] != nil
}

// sought says who asked for a session first, and whether somebody wants it to be
// brought here.
func (a *arrivals) sought(clientID string) (browser string, settle bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.by[clientID]
	return x.browser, x.settle
}

// reclaim claims a session that lives here, but whose home presence took for lost
// in a generation. If another edge was faster the report of that says so.
func (a *arrivals) reclaim(c *client, g home.Generation) {
	a.do(func(ctx context.Context) {
		select {
		case a.atWork <- struct{}{}:
			defer func() { <-a.atWork }()
		case <-ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(ctx, arrivalPatience)
		defer cancel()
		claimed, err := a.records.Claim(ctx, c.session.PublicID(), a.service.node.Member(), generationProto(g))
		if err == nil {
			c.succeed(generationOf(claimed.GetGeneration()))
		}
		a.service.reports.Changed(c.session.PublicID()) // else presence says again what is wrong
	})
}

// do does something in the background, unless the edge ends.
func (a *arrivals) do(work func(ctx context.Context)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx := a.ctx; ctx != nil && ctx.Err() == nil {
		a.running.Go(func() { work(ctx) })
	}
}

// resume waits until one more session may come here.
func (s *Service) resume(ctx context.Context) error {
	for {
		after, ok := s.resumers.Admit(time.Now())
		if ok {
			return nil
		}
		if backoff.Pause(ctx, after); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// whereabouts is where a session is: here, or at another edge.
type whereabouts struct {
	client *client
	home   membership.Node
}

func (w whereabouts) tell(v visitor, err error) {
	switch {
	case errors.Is(err, records.ErrUnknown):
		v.unknown()
	case err != nil:
		v.unavailable()
	case w.client != nil:
		v.here(w.client)
	default:
		v.elsewhere(w.home)
	}
}

// find says where a session is, and brings it here if it has no home.
func (a *arrivals) find(ctx context.Context, clientID string) (w whereabouts, err error) {
	ctx, cancel := context.WithTimeout(ctx, arrivalPatience)
	defer cancel()
	select {
	case a.atWork <- struct{}{}:
		defer func() { <-a.atWork }()
	case <-ctx.Done():
		return w, ctx.Err()
	}
	browser, settle := a.sought(clientID)
	if !a.service.keyring.valid(ctx, clientID, browser) || !a.records.Kept(publicID(clientID)) {
		return w, records.ErrUnknown
	}
	x := passage{arrivals: a, id: clientID, settle: settle}
	return x.run(ctx)
}
