package edge

import (
	"net/http"
	"time"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/deadline"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/session"
	"github.com/comet-push/comet/services/edge/internal/transport"
)

// Receive implements [transport.Sessions].
func (s *Service) Receive(e *hold.Exchange, r transport.Request) {
	id, handshake := session.Route(r.Messages)
	if handshake {
		c, refusal := s.admit(r.Messages, r.Browser)
		if c == nil {
			e.Answer(hold.Answer{Status: http.StatusOK, Body: refusal})
			return
		}
		s.unanswered.add()
		e.Own(c)
		c.handshake(e, session.Request{Exchange: session.Exchange(e.Number()), Messages: r.Messages})
		s.missedByDrain(c)
		return
	}
	c := s.registry.find(id)
	if s.refusesID(c, id, r.Browser) {
		e.Answer(hold.Answer{Status: http.StatusOK, Body: s.unknown(r.Messages)})
		return
	}
	if c != nil {
		e.Own(c)
		if _, here := s.give(c, e, "", r); here {
			return
		}
	}
	s.front(e, id, r)
}

// refusesID reports whether a clientId is forged, of which c is the session if it
// is here. That needs no look then unless ids are bound to browsers: nobody finds
// one by chance.
func (s *Service) refusesID(c *client, id, browser string) bool {
	return (s.keyring.bind || c == nil) && s.keyring.forged(id, browser)
}

// give gives a request to its session, unless that has left. front is the edge
// through which it came, or nothing; settled: the session should move there.
func (s *Service) give(c *client, e *hold.Exchange, front string, r transport.Request) (settled, here bool) {
	request := session.Request{Exchange: session.Exchange(e.Number()), Messages: r.Messages, Repeated: r.Repeated}
	var b browser
	if !r.Multiplexed && isConnect(r.Messages) {
		b, request.NoHold = s.browsers.enter(r.Browser, c)
	}
	s.unanswered.add()
	if settled, here = c.receive(exchange{Exchange: e, browser: b}, front, request); !here {
		s.browsers.leave(b, c)
		s.unanswered.done()
	}
	return settled, here
}

// unknown answers messages that name no session of this edge.
func (s *Service) unknown(messages []bayeux.Message) []byte {
	s.refused(channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN)
	return session.Unknown(s.sessions, time.Now(), messages)
}

// admit makes the client of a handshake, which is to be given to it, or refuses
// it.
func (s *Service) admit(messages []bayeux.Message, browser string) (c *client, refusal []byte) {
	if s.draining.Load() {
		return nil, s.refuseHandshake(messages, channelv1.ErrorReason_ERROR_REASON_DRAINING,
			bayeux.Unavailable(), s.drainInterval())
	}
	keys := s.keyring.keys()
	if len(keys) == 0 { // the directory has not answered yet
		return nil, s.refuseHandshake(messages, channelv1.ErrorReason_ERROR_REASON_NOT_READY,
			bayeux.Unavailable(), s.drainInterval())
	}
	if after, ok := s.newcomers.Admit(time.Now()); !ok {
		return nil, s.refuseHandshake(messages, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			bayeux.LimitExceeded("session-rate"), after)
	}
	if !s.registry.reserve() {
		return nil, s.refuseHandshake(messages, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			bayeux.LimitExceeded("sessions"), s.fullInterval())
	}
	id := keys.New(s.hint, s.keyring.bound(browser))
	epoch := s.edges.known().Presence.Holders(shard.OfSession(publicID(id))).Epoch
	c = &client{
		seat:    home.NewSeat(home.First(epoch), time.Time{}),
		service: s, since: s.sinceStart(time.Now()),
		session: session.New(s.sessions, id, publicID(id), ""),
	}
	c.timer.Value = c
	s.registry.add(c)
	return c, nil
}

// missedByDrain ends a session that began while the drain did.
func (s *Service) missedByDrain(c *client) {
	if s.draining.Load() {
		c.end(session.Drained)
	}
}

// refuseHandshake answers a handshake that can be repeated later.
func (s *Service) refuseHandshake(
	messages []bayeux.Message, reason channelv1.ErrorReason, err *bayeux.Error, interval time.Duration,
) []byte {
	s.refused(reason)
	replies := make([]bayeux.Message, len(messages))
	for i := range messages {
		m := &messages[i]
		if m.Channel != bayeux.Handshake {
			replies[i] = m.Reply(bayeux.SessionUnknown())
			continue
		}
		replies[i] = m.Reply(err)
		replies[i].Advice = bayeux.NewAdvice(bayeux.ReconnectHandshake, interval, s.cfg.PollTimeout)
	}
	return bayeux.AppendBatch(nil, replies)
}

func (s *Service) timers(c *client) *deadline.Queue[*client] {
	id := c.session.ID()
	return s.deadlines[id[len(id)-1]%timerQueues]
}

// written books events that reached a connection; newest is when the newest of
// them was appended.
func (s *Service) written(now time.Time, events int, newest int64) {
	if events == 0 {
		return
	}
	s.metrics.deliveries.Add(float64(events))
	if newest != 0 {
		took := time.Duration(now.UnixNano() - newest)
		s.metrics.socket.Observe(max(took, 0).Seconds()) // clocks may differ
	}
}

// nanoseconds is a time of the log's clock as a number, 0 if it is unknown.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func (s *Service) countHeld(holding bool) {
	if holding {
		s.metrics.held.Inc()
	} else {
		s.metrics.held.Dec()
	}
}

func (s *Service) dropped(d *session.Dropped) {
	if d.Total() == 0 {
		return
	}
	for _, each := range [...]struct {
		reason string
		n      int
	}{{"overflow", d.Overflow}, {"oldest", d.Oldest}, {"conflated", d.Conflated}, {"age", d.Age}} {
		if each.n > 0 {
			s.metrics.dropped.WithLabelValues(each.reason).Add(float64(each.n))
		}
	}
}

func (s *Service) cut(reason hold.Reason) {
	s.metrics.cuts.WithLabelValues(string(reason)).Inc()
}

// mostWaiting is how many bytes may wait on a WebSocket: events are kept in
// sessions from the first [hold.Full] on, so what is above that are answers
// nobody reads.
func (s *Service) mostWaiting() int { return hold.Full + 4*s.sessions.QueueBytes }

func (s *Service) refused(reason channelv1.ErrorReason) {
	s.metrics.refused.WithLabelValues(rpc.ReasonName(reason)).Inc()
}
