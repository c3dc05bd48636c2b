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
	socket   uint64 // 0: HTTP
	arrived  time.Time
	messages []bayeux.Message
	replies  []reply // one for each message
	begun    int     // messages that were looked at
	waiting  int     // those of them that are not answered
	behind   bool    // these are publishes, so a publish need not wait for them
	connect  int     // index of the newest connect that it is to answer, -1: none
	repeated bool    // it may have been taken before
	lost     bool    // nobody waits for the answer
	done     bool    // it has been answered
	batch    uint32  // of the events that went with its answer, whose fate is not known; 0: none
	order    Order   // a backend's, not the client's, and in no list; 0: none
	next     *request
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
	if s.ended() {
		s.receiveLate(now, r, out)
		return
	}
	if len(r.Messages) == 1 && s.isConnect(&r.Messages[0]) {
		s.receiveConnect(now, r, &r.Messages[0], out)
		return
	}
	if s.homeless() {
		s.bind(r.Socket, out)
		s.push(now, out)
	}
	if s.busy() {
		s.refuse(now, r, out)
		return
	}
	req := &request{
		exchange: r.Exchange, socket: r.Socket, arrived: now, messages: r.Messages,
		replies: make([]reply, len(r.Messages)), connect: -1, repeated: r.Repeated,
	}
	s.keep(req)
	if r.Socket != 0 {
		s.connectBefore(now, r, req, out)
	}
	s.advance(now, req, out)
}

// receiveLate takes a request of a session that has ended.
func (s *Session) receiveLate(now time.Time, r Request, out *Effects) {
	switch {
	case s.Ended() != Moved:
		out.answer(r.Exchange, r.Socket, Unknown(s.cfg, now, r.Messages))
	case r.Socket == 0:
		out.Answers = append(out.Answers, Answer{Exchange: r.Exchange, Status: statusElsewhere})
	}
}

// connectBefore takes the connects of a frame with other messages: they do not
// wait for what is under way on the socket.
func (s *Session) connectBefore(now time.Time, r Request, req *request, out *Effects) {
	for i := range r.Messages {
		if s.isConnect(&r.Messages[i]) {
			req.replies[i].text = []byte{} // it has an answer of its own
			s.receiveConnect(now, r, &r.Messages[i], out)
		}
	}
}

// busy reports whether there are as many unanswered requests as there may be.
func (s *Session) busy() bool {
	n := 0
	for r := s.requests; r != nil; r = r.next {
		if !r.done {
			n++
		}
	}
	return n >= s.cfg.Exchanges
}

// refuse answers a request too many.
func (s *Session) refuse(now time.Time, r Request, out *Effects) {
	if r.Socket == 0 {
		out.Answers = append(out.Answers, Answer{Exchange: r.Exchange, Status: statusTooMany})
		return
	}
	body := []byte{'['}
	for i := range r.Messages {
		reply := replyTo(&r.Messages[i], bayeux.LimitExceeded("requests"))
		body = append(appendReply(body, now, &reply), ',')
	}
	body[len(body)-1] = ']'
	out.answer(r.Exchange, r.Socket, body)
}

// keep appends to the list of requests.
func (s *Session) keep(r *request) {
	end := &s.requests
	for *end != nil {
		end = &(*end).next
	}
	*end = r
}

// drop removes from the list of requests.
func (s *Session) drop(r *request) {
	for at := &s.requests; *at != nil; at = &(*at).next {
		if *at == r {
			*at = r.next
			return
		}
	}
}

// isConnect reports whether a message is a good connect of this session.
func (s *Session) isConnect(m *bayeux.Message) bool {
	return m.Channel == bayeux.Connect && m.ClientID == s.id && m.Problem == nil
}

// advance goes on with a request, or with all of its socket, where a publish
// does not overtake what came in frames before it.
func (s *Session) advance(now time.Time, r *request, out *Effects) {
	if r.socket == 0 {
		s.work(now, r, false, out)
		return
	}
	socket, behind := r.socket, false
	for r = s.requests; r != nil && !s.ended(); r = r.next {
		if r.socket == socket {
			s.work(now, r, behind, out)
			behind = behind || r.begun < len(r.messages) || r.waiting > 0 && !r.behind
		}
	}
}

// work works on a request until a message has to wait, and answers it when none
// does. behind says that publishes have to.
func (s *Session) work(now time.Time, r *request, behind bool, out *Effects) {
	for r.begun < len(r.messages) {
		publish := !bayeux.IsMeta(r.messages[r.begun].Channel)
		if barrier := !publish || !r.behind; barrier && r.waiting > 0 || publish && behind {
			return
		}
		r.begun++
		r.behind = publish
		s.process(now, waiter{r, r.begun - 1}, out)
	}
	if r.waiting == 0 && !r.done {
		s.finish(now, r, out)
	}
}

func (s *Session) process(now time.Time, w waiter, out *Effects) {
	m := w.message()
	switch {
	case s.ended() || m.ClientID != s.id:
		w.reply().text = unknown(s.cfg, now, m)
	case m.Problem != nil:
		s.reply(now, w, m.Problem)
	case m.Channel == bayeux.Connect:
		s.connectAmong(now, w, out)
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
	for r := s.requests; r != nil; r = r.next {
		i := slices.IndexFunc(r.replies, func(p reply) bool { return p.token == token && p.text == nil })
		if token != 0 && i >= 0 {
			s.resolve(now, waiter{r, i}, err, out)
			return
		}
	}
}

// resolve answers a message that waited, and goes on with its request.
func (s *Session) resolve(now time.Time, w waiter, err *bayeux.Error, out *Effects) {
	if w.request.order != 0 {
		out.Carried = append(out.Carried, Carried{w.request.order, err})
		return
	}
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
	s.drop(r)
	if r.lost {
		return
	}
	a := Answer{Exchange: r.exchange, Socket: r.socket, Status: statusOK, Body: []byte{'['}}
	switch {
	case r.connect >= 0 && s.isCurrent(r):
		ext := s.send(&a)
		r.replies[r.connect].text = s.appendConnectReply(nil, now, ext, s.adviceDue())
	case s.cfg.Piggyback && r.socket == 0 && s.transport == longPolling && !s.ack && !s.ended():
		s.piggyback(&a)
	}
	for i := range r.replies {
		text := r.replies[i].text
		if text == nil {
			text = s.pastConnect(now, &r.messages[i])
		}
		if len(text) > 0 { // else it has an answer of its own
			a.Body = append(append(a.Body, text...), ',')
		}
	}
	if len(a.Body) == 1 {
		return
	}
	a.Body[len(a.Body)-1] = ']'
	out.Answers = append(out.Answers, a)
	s.pump(out)
}

// connectAmong takes a connect that is not alone in an HTTP request: it is
// answered with the others.
func (s *Session) connectAmong(now time.Time, w waiter, out *Effects) {
	if w.request.socket != 0 {
		return // connectBefore took it
	}
	r := Request{Exchange: w.request.exchange, Messages: w.request.messages, Repeated: w.request.repeated}
	s.beginConnect(now, r, w.message(), out)
	w.request.connect = w.index
}

// isCurrent reports whether the current connect waits for this request.
func (s *Session) isCurrent(r *request) bool {
	return !s.ended() && s.connect.state == begun && s.connect.exchange == r.exchange
}

// pastConnect is the reply to a connect among other messages that is not
// current any more. It brings nothing.
func (s *Session) pastConnect(now time.Time, m *bayeux.Message) []byte {
	r := replyTo(m, nil)
	r.ClientID = s.id
	if end := s.Ended(); end == Disconnected || end == Evicted {
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
	s.keep(&request{exchange: a.Exchange, batch: s.batch, done: true})
}
