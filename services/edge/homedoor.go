package edge

import (
	"net/http"

	"github.com/comet-push/comet/bayeux"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
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
	id, handshake := session.Route(messages)
	c := h.registry.find(id)
	if c == nil || handshake {
		return relay.Reception{Elsewhere: &edgev1.NotHome{Home: h.departures.home(publicID(id))}}
	}
	e.Own(c)
	settled, here := h.give(c, e, front, transport.Request{
		Messages: messages, Browser: r.GetBrowser(), Multiplexed: r.GetMultiplexed(),
		ConnectionType: r.GetConnectionType(),
	})
	if !here {
		return relay.Reception{Elsewhere: &edgev1.NotHome{Home: h.departures.home(c.session.PublicID())}}
	}
	return relay.Reception{Settled: settled}
}

// Hurry implements [relay.Home].
func (h homeDoor) Hurry(e *hold.Exchange) {
	if c, ok := e.Owner().(*client); ok {
		c.hurry(e.Number())
	}
}
