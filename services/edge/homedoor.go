package edge

import (
	"net/http"

	"github.com/comet-push/comet/bayeux"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/services/edge/internal/clientid"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/relay"
	"github.com/comet-push/comet/services/edge/internal/session"
	"github.com/comet-push/comet/services/edge/internal/transport"
)

// homeDoor is the service as the home of sessions whose clients come to other edges.
type homeDoor struct{ *Service }

// Number implements [relay.Home].
func (h homeDoor) Number() uint64 { return h.number() }

// Relayed implements [relay.Home].
func (h homeDoor) Relayed(front string, e *hold.Exchange, r *edgev1.RelayedRequest) relay.Reception {
	messages, err := bayeux.DecodePost(r.GetBody(), bayeux.Limits{})
	if err != nil { // another edge has let it pass
		e.Answer(hold.Answer{Status: http.StatusServiceUnavailable})
		return relay.Reception{}
	}
	request := transport.Request{
		Messages: messages, Body: r.GetBody(), Browser: r.GetBrowser(), Multiplexed: r.GetMultiplexed(),
		ConnectionType: r.GetConnectionType(), Repeated: r.GetRepeated(),
	}
	id, handshake := session.Route(messages)
	c := h.registry.find(id)
	switch {
	case handshake || !clientid.WellFormed(id):
		return relay.Reception{Elsewhere: &edgev1.NotHome{}}
	case c == nil && h.endings.has(publicID(id)):
		return relay.Reception{Elsewhere: &edgev1.NotHome{Over: true}}
	case c == nil && h.arrivals.expects(id):
		f := &fronted{service: h.Service, exchange: e, id: id, request: request}
		h.unanswered.add()
		e.Own(f)
		h.arrivals.ask(id, r.GetBrowser(), false, f)
		return relay.Reception{}
	case c == nil:
		return relay.Reception{Elsewhere: &edgev1.NotHome{Home: h.departures.home(publicID(id))}}
	}
	e.Own(c)
	settled, here := h.give(c, e, front, request)
	if !here {
		return relay.Reception{Elsewhere: &edgev1.NotHome{Home: h.departures.home(c.session.PublicID())}}
	}
	return relay.Reception{Settled: settled}
}

// Vanished implements [relay.Home].
func (h homeDoor) Vanished(e *hold.Exchange) {
	if c, ok := e.Owner().(*client); ok {
		c.await()
	}
}

// Hurry implements [relay.Home].
func (h homeDoor) Hurry(e *hold.Exchange) {
	switch owner := e.Owner().(type) {
	case *client:
		owner.hurry(e.Number())
	case *fronted:
		owner.Drain(e.Number())
	}
}
