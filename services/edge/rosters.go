package edge

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/comet-push/comet/bayeux"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/roster"
	"github.com/comet-push/comet/services/edge/internal/event"
	watched "github.com/comet-push/comet/services/edge/internal/roster"
	"github.com/comet-push/comet/services/edge/internal/session"
)

const (
	// mostRosters is how many rosters sessions of one edge can watch at a time: half
	// as many as a connection to presence has streams, which others need, too.
	mostRosters = 5_000
	// mostMember is how many bytes a member takes at most that has no strange name.
	mostMember = 400
)

// rosters tells sessions who is on channels. Sessions subscribe to /presence/…;
// presence is asked about each channel once for all of them.
type rosters struct {
	namespaces *namespace.Set
	conns      rosterSource
	breaks     prometheus.Counter
	logger     *slog.Logger
	most       int // members that fit into half a queue
	room       int // rosters that can be watched at a time

	wake chan struct{} // has room for one

	mu     sync.Mutex // taken before that of a feed
	feeds  map[string]*feed
	begins []*feed // to be run
}

// rosterSource returns a way to some presence process.
type rosterSource func() (edgev1.RosterServiceClient, error)

// newRosters returns rosters that are told once they run.
func newRosters(s *Service, deps Deps) *rosters {
	f := promauto.With(deps.Registerer)
	r := &rosters{
		namespaces: deps.Namespaces, logger: s.logger, wake: make(chan struct{}, 1), feeds: map[string]*feed{},
		room: mostRosters,
		most: min(roster.Most, s.sessions.QueueBytes/2/mostMember),
		breaks: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_edge_roster_breaks_total", Help: "Times a roster could not be followed at presence, or not any more.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_edge_rosters", Help: "Rosters that sessions of this edge watch.",
	}, func() float64 { return float64(r.len()) })
	r.conns = func() (edgev1.RosterServiceClient, error) {
		var nodes []membership.Node
		for _, n := range s.edges.known().With(membership.Presence) {
			if !n.Draining {
				nodes = append(nodes, n)
			}
		}
		if len(nodes) == 0 {
			return nil, errors.New("there is no presence process")
		}
		conn, err := s.conns.Conn(nodes[rand.IntN(len(nodes))].Addr)
		if err != nil {
			return nil, err
		}
		return edgev1.NewRosterServiceClient(conn), nil
	}
	return r
}

func (r *rosters) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.feeds)
}

// take takes what a session asks of rosters.
func (r *rosters) take(c *client, out *session.Effects) {
	for _, channel := range out.Joined {
		if f := r.find(channel); f != nil {
			f.signal() // now it can be told
		}
	}
	for _, channel := range out.Stray {
		if f := r.find(channel); f != nil {
			f.do(func(w *watched.Roster[*client]) { w.Owe(c) })
		}
	}
}

// interest lets a session watch, or not any more, and answers it.
func (r *rosters) interest(c *client, i session.Interest) {
	switch {
	case i.Leave:
		r.mu.Lock()
		defer r.mu.Unlock()
		if f := r.feeds[i.Channel]; f != nil {
			f.do(func(w *watched.Roster[*client]) { w.Remove(c) })
		}
		return
	case !r.add(c, i):
		c.watches(i.Token, bayeux.LimitExceeded("rosters"))
	case i.Token != 0:
		c.watches(i.Token, nil)
	}
}

// add reports whether there was room. Who watched at another edge finds some.
func (r *rosters) add(c *client, i session.Interest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.feeds[i.Channel]
	if f == nil {
		if len(r.feeds) >= r.room && i.Token != 0 {
			return false
		}
		f = &feed{rosters: r, name: i.Channel, wake: make(chan struct{}, 1)}
		f.channel, _ = bayeux.RosterOf(i.Channel)
		if r.namespaces.Presence(f.channel) == namespace.Members {
			f.limit = r.most
		}
		f.roster = watched.New[*client](f.limit > 0)
		r.feeds[i.Channel] = f
		r.begins = append(r.begins, f)
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	f.do(func(w *watched.Roster[*client]) { w.Add(c) })
	return true
}

func (r *rosters) find(channel string) *feed {
	if _, ok := bayeux.RosterOf(channel); !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.feeds[channel]
}

// run follows rosters until ctx ends.
func (r *rosters) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
		for _, f := range r.begun() {
			running.Go(func() { f.run(ctx) })
		}
	}
}

func (r *rosters) begun() []*feed {
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := r.begins
	r.begins = nil
	return begun
}

// end ends a feed unless somebody watches.
func (r *rosters) end(f *feed) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.watchers() > 0 {
		return false
	}
	delete(r.feeds, f.name)
	return true
}

// tell tells the client news of a roster, and reports whether that was possible.
func (c *client) tell(e *event.Event) bool {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	told := c.session.Tell(now, e, &out)
	c.settle(now, &out)
	return told
}

// watches answers an interest in a roster.
func (c *client) watches(token uint64, err *bayeux.Error) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Subscribed(now, token, nil, err, &out)
	c.settle(now, &out)
}
