package session

import (
	"slices"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// request is an exchange that is worked on: its messages in order, except that
// publishes in a row do not wait for each other.
type request struct {
	exchange Exchange
	arrived  time.Time
	messages []bayeux.Message
	replies  []reply // one for each message
	next     int     // the message to look at next
	waiting  int     // messages before it that are not answered
	behind   bool    // these are publishes, so a publish need not wait for them
	connect  int     // index of the newest connect, -1: none
	lost     bool    // nobody waits for the answer
	done     bool    // it has been answered
}

// reply is the answer to one message.
type reply struct {
	text  []byte // nil until known
	token uint64 // of the Publish
	waits int    // channels of a subscribe that are not ready
}

func (w waiter) message() *bayeux.Message { return &w.request.messages[w.index] }
func (w waiter) reply() *reply            { return &w.request.replies[w.index] }

// Receive takes a request of this session.
func (s *Session) Receive(now time.Time, r Request, out *Effects) {
	s.touch(now)
	switch {
	case s.ended != "":
		out.answer(r.Exchange, Unknown(s.cfg, now, r.Messages))
	case len(r.Messages) == 1 && s.isConnect(&r.Messages[0]):
		s.receiveConnect(now, r, out)
	case len(s.requests) >= s.cfg.Exchanges:
		out.Answers = append(out.Answers, Answer{Exchange: r.Exchange, Status: statusTooMany})
	default:
		req := &request{
			exchange: r.Exchange, arrived: now, messages: r.Messages,
			replies: make([]reply, len(r.Messages)), connect: -1,
		}
		s.requests = append(s.requests, req)
		s.advance(now, req, out)
	}
}

// isConnect reports whether a message is a good connect of this session.
func (s *Session) isConnect(m *bayeux.Message) bool {
	return m.Channel == bayeux.Connect && m.ClientID == s.id && m.Problem == nil
}

// advance works on a request until a message has to wait, and answers it when
// none does.
func (s *Session) advance(now time.Time, r *request, out *Effects) {
	for r.next < len(r.messages) {
		publish := !bayeux.IsMeta(r.messages[r.next].Channel)
		if barrier := !publish || !r.behind; barrier && r.waiting > 0 {
			return
		}
		r.next++
		r.behind = publish
		s.process(now, waiter{r, r.next - 1}, out)
	}
	if r.waiting == 0 && !r.done {
		s.finish(now, r, out)
	}
}

func (s *Session) process(now time.Time, w waiter, out *Effects) {
	m := w.message()
	switch {
	case s.ended != "" || m.ClientID != s.id:
		w.reply().text = unknown(s.cfg, now, m)
	case m.Problem != nil:
		s.reply(now, w, m.Problem)
	case m.Channel == bayeux.Connect:
		s.beginConnect(now, w.request.exchange, m, false, out)
		w.request.connect = w.index
	case m.Channel == bayeux.Subscribe:
		s.subscribe(now, w, out)
	case m.Channel == bayeux.Unsubscribe:
		s.unsubscribe(now, w, out)
	case m.Channel == bayeux.Disconnect:
		s.reply(now, w, nil)
		s.close(now, Disconnected, w.request, out)
	case m.Channel == bayeux.Handshake:
		w.reply().text = unknown(s.cfg, now, m) // it belongs to Session.Handshake
	case bayeux.IsMeta(m.Channel):
		s.reply(now, w, bayeux.ChannelCreateDenied(bayeux.DeniedByPolicy))
	default:
		s.publish(now, w, out)
	}
}

func (s *Session) publish(now time.Time, w waiter, out *Effects) {
	m := w.message()
	if m.Data == nil {
		s.reply(now, w, bayeux.ParameterMissing("data"))
		return
	}
	if err := s.cfg.MayPublish(s.user, m.Channel, len(m.Data)); err != nil {
		s.reply(now, w, err)
		return
	}
	p := Publish{Token: s.nextToken(), Channel: m.Channel, Data: m.Data, Ext: m.Ext, Members: m.EventMembers()}
	if bayeux.IsService(m.Channel) {
		p.Session, p.ID = s.publicID, m.IDText()
	}
	w.reply().token = p.Token
	w.request.waiting++
	out.Publishes = append(out.Publishes, p)
}

// Published answers a Publish: err, or that it is committed.
func (s *Session) Published(now time.Time, token uint64, err *bayeux.Error, out *Effects) {
	for _, r := range s.requests {
		i := slices.IndexFunc(r.replies, func(p reply) bool { return p.token == token && p.text == nil })
		if token != 0 && i >= 0 {
			s.resolve(now, waiter{r, i}, err, out)
			return
		}
	}
}

// resolve answers a message that waited, and goes on with its request.
func (s *Session) resolve(now time.Time, w waiter, err *bayeux.Error, out *Effects) {
	s.reply(now, w, err)
	w.request.waiting--
	s.advance(now, w.request, out)
}

// reply sets the reply to a message; nil is success.
func (s *Session) reply(now time.Time, w waiter, err *bayeux.Error) {
	m := w.message()
	r := replyTo(m, err)
	if bayeux.IsMeta(m.Channel) {
		r.Ext = extension{timesync: syncOf(m, w.request.arrived)}.json(now)
	}
	w.reply().text = appendReply(nil, now, &r)
}

// finish answers a request whose messages are all answered.
func (s *Session) finish(now time.Time, r *request, out *Effects) {
	r.done = true
	s.requests = slices.DeleteFunc(s.requests, func(other *request) bool { return other == r })
	if r.lost {
		return
	}
	a := Answer{Exchange: r.exchange, Status: statusOK, Body: []byte{'['}}
	switch {
	case r.connect >= 0 && s.isCurrent(r):
		ext := s.send(&a)
		r.replies[r.connect].text = s.appendConnectReply(nil, now, ext, s.adviceDue())
	case s.cfg.Piggyback && !s.ack && s.ended == "":
		s.piggyback(&a)
	}
	for i := range r.replies {
		text := r.replies[i].text
		if text == nil {
			text = s.pastConnect(now, &r.messages[i])
		}
		a.Body = append(append(a.Body, text...), ',')
	}
	a.Body[len(a.Body)-1] = ']'
	out.Answers = append(out.Answers, a)
	s.pump(out)
}

// isCurrent reports whether the current connect waits for this request.
func (s *Session) isCurrent(r *request) bool {
	return s.ended == "" && s.connect.state == begun && s.connect.exchange == r.exchange
}

// pastConnect is the reply to a connect among other messages that is not
// current any more. It brings nothing.
func (s *Session) pastConnect(now time.Time, m *bayeux.Message) []byte {
	r := replyTo(m, nil)
	r.ClientID = s.id
	if s.ended == Disconnected || s.ended == Evicted {
		r.Advice = s.stop()
	}
	return appendReply(nil, now, &r)
}

// piggyback sends fresh events with an answer that is not to a connect.
func (s *Session) piggyback(a *Answer) {
	if s.fresh.events == 0 {
		return
	}
	s.batch++
	s.take(a, s.batch, false)
	s.lent = append(s.lent, lent{a.Exchange, s.batch})
}
