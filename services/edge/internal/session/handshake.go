package session

import (
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// The statuses of answers.
const (
	statusOK        = 200
	statusTooMany   = 429
	statusReplaced  = 503 // never 408, which browsers answer by repeating the request
	statusElsewhere = 503
)

// Route says whom a request is for. A request with a handshake in it is for a
// new session's Handshake, any other for the session with the clientId that is
// named first. If there is none, or the session is unknown, Unknown has the
// body of the answer, with status 200.
func Route(in []bayeux.Message) (clientID string, handshake bool) {
	for i := range in {
		if in[i].Channel == bayeux.Handshake {
			return "", true
		}
		if clientID == "" {
			clientID = in[i].ClientID
		}
	}
	return clientID, false
}

// Unknown returns the body that answers messages without a session.
func Unknown(cfg *Config, now time.Time, in []bayeux.Message) []byte {
	body := []byte{'['}
	for i := range in {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, unknown(cfg, now, &in[i])...)
	}
	return append(body, ']')
}

// unknown is the reply to a message without a session. Only connects are told
// to handshake: told by another reply, the CometD client would read it into
// the next success. The interval is random so that clients that lost their
// edge together do not come back together.
func unknown(cfg *Config, now time.Time, m *bayeux.Message) []byte {
	const least, spread = 100, 1901
	r := replyTo(m, bayeux.SessionUnknown())
	if m.Channel == bayeux.Connect {
		interval := time.Duration(least+cfg.Jitter(spread)) * time.Millisecond
		r.Advice = bayeux.NewAdvice(bayeux.ReconnectHandshake, interval, cfg.Timeout)
	}
	return appendReply(nil, now, &r)
}

// Handshake answers a request that has a handshake in it. The other messages
// are refused. If the handshake is refused, Effects.Ended is Refused and the
// session is to be thrown away.
func (s *Session) Handshake(now time.Time, r Request, out *Effects) {
	own := slices.IndexFunc(r.Messages, func(m bayeux.Message) bool { return m.Channel == bayeux.Handshake })
	body := []byte{'['}
	for i := range r.Messages {
		if i > 0 {
			body = append(body, ',')
		}
		if i == own {
			body = append(body, s.shakeHands(now, &r.Messages[i], out)...)
			continue
		}
		other := replyTo(&r.Messages[i], bayeux.SessionUnknown())
		body = appendReply(body, now, &other)
	}
	out.answer(r.Exchange, r.Socket, append(body, ']'))
	s.connect = connect{exchange: r.Exchange, socket: r.Socket != 0, state: answered, interval: s.cfg.Interval}
	s.passOn(now)
}

func (s *Session) shakeHands(now time.Time, m *bayeux.Message, out *Effects) []byte {
	if err := s.acceptable(m); err != nil {
		s.setReason(Refused)
		out.Ended = Refused
		reply := replyTo(m, err)
		reply.Advice = s.stop()
		return appendReply(nil, now, &reply)
	}
	s.ack = bayeux.AckRequested(m.Ext)
	s.replay = bayeux.ReplayRequested(m.Ext)

	reply := replyTo(m, nil)
	reply.ClientID = s.id
	reply.Version, reply.MinimumVersion = bayeux.Version, bayeux.Version
	reply.SupportedConnectionTypes = s.cfg.ConnectionTypes
	reply.Advice = s.advice(s.cfg.Interval)
	reply.Ext = extension{agreed: true, acks: s.ack, replays: s.replay, timesync: syncOf(m, now)}.json(now)
	return appendReply(nil, now, &reply)
}

func (s *Session) acceptable(m *bayeux.Message) *bayeux.Error {
	major, _, _ := strings.Cut(m.Version, ".")
	switch {
	case m.Problem != nil:
		return m.Problem
	case m.Version != "" && major != "1":
		return bayeux.VersionMismatch(m.Version)
	case m.SupportedConnectionTypes == nil:
		return bayeux.ParameterMissing("supportedConnectionTypes")
	case !slices.ContainsFunc(m.SupportedConnectionTypes, func(t string) bool {
		return slices.Contains(s.cfg.ConnectionTypes, t)
	}):
		return bayeux.ConnectionTypesUnsupported(m.SupportedConnectionTypes...)
	}
	return nil
}
