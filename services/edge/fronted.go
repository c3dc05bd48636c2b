package edge

import (
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/comet-push/comet/bayeux"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/services/edge/internal/clientid"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/transport"
)

// maxRelays is how many edges a request is relayed to, one after the other.
const maxRelays = 4

// fronted is a request whose session was not here when it came: it is relayed to
// the session's home, or the session is brought here. It owns its exchange all
// the time.
type fronted struct {
	service  *Service // static, as are the next two
	exchange *hold.Exchange
	id       string            // the clientId
	request  transport.Request // but for Repeated, which who hears of its fate sets

	mu     sync.Mutex // leaf
	relays int        // how often it was relayed
	home   string     // who has it, as name@id, or nothing
	number uint64     // what that knows it by
	client *client    // whose session it is, once that is here
	over   bool
}

// front takes a request whose session is not here.
func (s *Service) front(e *hold.Exchange, id string, r transport.Request) {
	if s.draining.Load() && isConnect(r.Messages) && clientid.WellFormed(id) && s.arrivals.records.Kept(publicID(id)) {
		e.Answer(hold.Answer{Status: http.StatusOK, Body: s.sendOn(&r.Messages[0])})
		return
	}
	f := &fronted{service: s, exchange: e, id: id, request: r}
	s.unanswered.add()
	e.Own(f)
	if home, ok := s.homeOf(id); ok {
		f.elsewhere(home)
	} else {
		s.arrivals.ask(id, r.Browser, false, f)
	}
}

// sendOn answers a connect of a session that is not here, or not any more, while
// this edge drains: the client is to go on elsewhere, soon.
func (s *Service) sendOn(m *bayeux.Message) []byte {
	reply := m.Reply(nil)
	reply.ClientID = m.ClientID
	if batch, ok := bayeux.AckBatch(m.Ext); ok { // what it has already
		reply.Ext = fmt.Appendf(nil, `{"ack":%d}`, batch)
	}
	// It comes back though it was sent away: there is no other edge for now.
	reply.Advice = bayeux.NewAdvice(bayeux.ReconnectRetry, comeBack/2+s.drainInterval(), s.cfg.PollTimeout)
	return bayeux.AppendBatch(nil, []bayeux.Message{reply})
}

// homeOf is where a session is by what is known here: what was heard of it, or
// what its clientId hints at.
func (s *Service) homeOf(clientID string) (home membership.Node, ok bool) {
	if member := s.homes.of(clientID); member != "" {
		home, ok = s.edges.member(member)
	} else if hinted := s.edges.hinted(clientID); len(hinted) == 1 {
		home, ok = hinted[0], true
	}
	return home, ok && !home.EdgeLeaves()
}

// elsewhere implements [visitor]: it relays the request.
func (f *fronted) elsewhere(home membership.Node) {
	number := f.service.number()
	if f.place(home.Member(), number) {
		f.service.fronts.Relay(home, number, &edgev1.RelayedRequest{
			Body: f.request.Body, Browser: f.request.Browser, Multiplexed: f.request.Multiplexed,
			ConnectionType: f.request.ConnectionType, Repeated: f.request.Repeated,
		}, f)
		return
	}
	f.unavailable()
}

// place notes who has the request, and reports whether it may be relayed there.
func (f *fronted) place(home string, number uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || f.relays == maxRelays {
		return false
	}
	f.relays++
	f.home, f.number = home, number
	return true
}

// here implements [visitor].
func (f *fronted) here(c *client) {
	f.mu.Lock()
	over := f.over
	if !over {
		f.home, f.client = "", c
	}
	f.mu.Unlock()
	if over {
		return
	}
	if _, here := f.service.give(c, f.exchange, "", f.request); !here {
		f.ask(false)
	}
}

// unknown implements [visitor].
func (f *fronted) unknown() {
	f.exchange.Answer(hold.Answer{Status: http.StatusOK, Body: f.service.unknown(f.request.Messages)})
}

// unavailable implements [visitor].
func (f *fronted) unavailable() {
	f.exchange.Answer(hold.Answer{Status: http.StatusServiceUnavailable})
}

// Answered implements [relay.Exchange].
func (f *fronted) Answered(a hold.Answer, settled bool) {
	f.exchange.Answer(a)
	if settled {
		f.service.arrivals.ask(f.id, f.request.Browser, true, nobody{})
	}
}

// Over implements [relay.Exchange].
func (f *fronted) Over() { f.unknown() }

// Elsewhere implements [relay.Exchange].
func (f *fronted) Elsewhere(home string, begun bool) {
	if begun && publishes(f.request.Messages) {
		f.unavailable()
		return
	}
	f.request.Repeated = f.request.Repeated || begun
	if n, ok := f.service.edges.member(home); ok && !n.EdgeLeaves() {
		f.service.homes.note(f.id, home)
		f.elsewhere(n)
		return
	}
	f.ask(false)
}

// Failed implements [relay.Exchange]. What may have published is not repeated.
func (f *fronted) Failed(begun bool) {
	if begun && publishes(f.request.Messages) {
		f.unavailable()
		return
	}
	f.request.Repeated = f.request.Repeated || begun
	f.ask(begun) // who does not answer is taken for no home any more
}

// ask has presence asked where the session is. settle: it is to be brought here.
func (f *fronted) ask(settle bool) {
	f.mu.Lock()
	over := f.over
	f.home, f.client = "", nil
	f.mu.Unlock()
	f.service.homes.forget(f.id)
	if !over {
		f.service.arrivals.ask(f.id, f.request.Browser, settle, f)
	}
}

func publishes(messages []bayeux.Message) bool {
	return slices.ContainsFunc(messages, func(m bayeux.Message) bool { return !bayeux.IsMeta(m.Channel) })
}

// Written implements [hold.Owner].
func (f *fronted) Written(number uint64) { f.end(number, true) }

// Lost implements [hold.Owner].
func (f *fronted) Lost(number uint64) { f.end(number, false) }

func (f *fronted) end(number uint64, written bool) {
	f.mu.Lock()
	f.over = true
	home, at, c := f.home, f.number, f.client
	f.mu.Unlock()
	switch {
	case c != nil && written:
		c.Written(number)
	case c != nil:
		c.Lost(number)
	case home != "":
		f.service.fronts.Over(home, at, written)
	}
	f.service.unanswered.done()
}

// Drain implements [hold.Owner].
func (f *fronted) Drain(number uint64) {
	f.mu.Lock()
	home, at, c := f.home, f.number, f.client
	f.mu.Unlock()
	switch {
	case c != nil:
		c.Drain(number)
	case home != "":
		f.service.fronts.Hurry(home, at)
	}
}

// nobody visits a session that is to be brought here before anybody asks.
type nobody struct{}

func (nobody) here(*client)              {}
func (nobody) elsewhere(membership.Node) {}
func (nobody) unknown()                  {}
func (nobody) unavailable()              {}
