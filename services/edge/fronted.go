package edge

import (
	"net/http"
	"slices"
	"sync"

	"github.com/comet-push/comet/bayeux"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/relay"
	"github.com/comet-push/comet/services/edge/internal/session"
	"github.com/comet-push/comet/services/edge/internal/transport"
)

// fronted is a request whose session is not here: it is relayed to the edges that
// may be its home, one after the other.
type fronted struct {
	service  *Service // static, as are the next three
	exchange *hold.Exchange
	id       string // the clientId
	request  transport.Request

	mu     sync.Mutex // leaf
	tried  []string   // the edges it was relayed to; the last one has it
	number uint64     // what that knows it by
	over   bool
}

// front takes a request whose session is not here.
func (s *Service) front(e *hold.Exchange, id string, r transport.Request) {
	f := &fronted{service: s, exchange: e, id: id, request: r}
	s.unanswered.add()
	e.Own(f)
	f.next("")
}

// next relays to an edge that was not tried: home, if it is known, else one that
// the clientId hints at.
func (f *fronted) next(home string) {
	s := f.service
	candidates := s.edges.hinted(f.id)
	if n, ok := s.edges.member(home); ok {
		candidates = append(slices.Clip(candidates[:0]), n)
	}
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return
	}
	for _, n := range candidates {
		member := n.Member()
		if slices.Contains(f.tried, member) {
			continue
		}
		f.tried, f.number = append(f.tried, member), s.number()
		number := f.number
		f.mu.Unlock()
		s.fronts.Relay(n, number, &edgev1.RelayedRequest{
			Body: f.request.Body, Browser: f.request.Browser, Multiplexed: f.request.Multiplexed,
			ConnectionType: f.request.ConnectionType,
		}, f)
		return
	}
	f.mu.Unlock()
	f.exchange.Answer(hold.Answer{Status: http.StatusOK, Body: s.unknown(f.request.Messages)})
}

// Answered implements [relay.Exchange].
func (f *fronted) Answered(a hold.Answer, _ bool) {
	f.exchange.Answer(a)
}

// Elsewhere implements [relay.Exchange].
func (f *fronted) Elsewhere(home string) { f.next(home) }

// Failed implements [relay.Exchange]. What may have published is not repeated.
func (f *fronted) Failed(begun bool) {
	if begun && publishes(f.request.Messages) {
		f.exchange.Answer(hold.Answer{Status: http.StatusServiceUnavailable})
		return
	}
	f.next("")
}

func publishes(messages []bayeux.Message) bool {
	return slices.ContainsFunc(messages, func(m bayeux.Message) bool { return !bayeux.IsMeta(m.Channel) })
}

// Written implements [hold.Owner].
func (f *fronted) Written(uint64) { f.end(true) }

// Lost implements [hold.Owner].
func (f *fronted) Lost(uint64) { f.end(false) }

func (f *fronted) end(written bool) {
	if home, number := f.place(true); home != "" {
		f.service.fronts.Over(home, number, written)
	}
	f.service.unanswered.done()
}

// Drain implements [hold.Owner].
func (f *fronted) Drain(uint64) {
	if home, number := f.place(false); home != "" {
		f.service.fronts.Hurry(home, number)
	}
}

// place says where the request is, if anywhere, and notes that it is over.
func (f *fronted) place(over bool) (home string, number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = f.over || over
	if len(f.tried) == 0 {
		return "", 0
	}
	return f.tried[len(f.tried)-1], f.number
}

// home is the service as the home of sessions whose clients come to other edges.
type home struct{ *Service }

// Number implements [relay.Home].
func (h home) Number() uint64 { return h.number() }

// Relayed implements [relay.Home].
func (h home) Relayed(_ string, e *hold.Exchange, r *edgev1.RelayedRequest) relay.Reception {
	messages, err := bayeux.DecodePost(r.GetBody(), bayeux.Limits{})
	if err != nil { // another edge has let it pass
		e.Answer(hold.Answer{Status: http.StatusServiceUnavailable})
		return relay.Reception{}
	}
	id, handshake := session.Route(messages)
	c := h.registry.find(id)
	if c == nil || handshake {
		return relay.Reception{Elsewhere: &edgev1.NotHome{}}
	}
	h.give(c, e, transport.Request{
		Messages: messages, Browser: r.GetBrowser(), Multiplexed: r.GetMultiplexed(),
		ConnectionType: r.GetConnectionType(),
	})
	return relay.Reception{}
}

// Hurry implements [relay.Home].
func (h home) Hurry(e *hold.Exchange) {
	if c, ok := e.Owner().(*client); ok {
		c.hurry(e.Number())
	}
}
