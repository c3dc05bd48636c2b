package session

import (
	"time"

	"github.com/comet-push/comet/bayeux"
)

type connectState uint8

const (
	none     connectState = iota
	begun                 // answered when the other messages of its request are
	held                  // waits for news
	answered              // its answer is on the way
	over                  // its answer was written or lost: the clock runs
)

// connect is the newest connect.
type connect struct {
	exchange Exchange
	id       string
	sync     *timesync
	due      time.Duration // when held: until then; when over: the session expires
	interval time.Duration // the pause the client will make after it
	batch    uint32        // of its answer
	state    connectState
	socket   bool // it came on Session.socket
	asked    bool // it is to be answered with advice
	stamped  bool // and with a timestamp
}

// maxRepeats is how often in a row an answer is sent again. A client that
// never stops asking (it polls with timeout 0, or gives each connect one id)
// would get each event for ever.
const maxRepeats = 8

// receiveConnect takes a connect that may be held: one that is alone in its
// request, or came on a socket.
func (s *Session) receiveConnect(now time.Time, r Request, m *bayeux.Message, out *Effects) {
	first := s.transport == noTransport
	s.beginConnect(now, r, m, out)
	s.push(now, out)

	timeout, given := s.timeout(m)
	hold := !first && !s.news() && !s.draining && timeout > 0 && (given || !s.unacknowledged())
	switch {
	case !hold:
		s.answerConnect(now, out)
	case r.NoHold && r.Socket == 0:
		advice := s.advice(s.cfg.MultiInterval)
		advice.MultipleClients = true
		s.answerWith(now, nil, advice, out)
		s.advise = true // the next one takes it back
	default:
		s.connect.state = held
		s.connect.due = s.since(now.Add(timeout))
		if r.Socket == 0 {
			out.Held = r.Exchange
		}
	}
}

// beginConnect makes a connect the current one, ends one that is held, stops
// the clock, and lets events go to where the connect came from.
func (s *Session) beginConnect(now time.Time, r Request, m *bayeux.Message, out *Effects) {
	if s.connect.state == held && !s.connect.socket {
		out.Answers = append(out.Answers, Answer{Exchange: s.connect.exchange, Status: statusReplaced})
	}
	s.settle(m, len(r.Messages) == 1, out)
	s.bind(r.Socket)
	s.transport = transportOf(r, m)
	s.connect = connect{
		exchange: r.Exchange,
		socket:   r.Socket != 0,
		state:    begun,
		asked:    m.Advice != nil,
		stamped:  m.Timestamp != "",
		id:       string(m.ID),
		interval: s.cfg.Interval,
		sync:     syncOf(m, now),
	}
	if a := m.Advice; a != nil && a.Interval != nil {
		s.connect.interval = max(s.cfg.Interval, s.bounded(*a.Interval))
	}
}

// settle decides what a connect says about the answers before it.
func (s *Session) settle(m *bayeux.Message, alone bool, out *Effects) {
	if s.ack {
		batch, ok := bayeux.AckBatch(m.Ext)
		if s.unsure {
			s.renumber(batch)
		}
		if !ok {
			batch = 0
		}
		s.acknowledge(uint64(batch))
		s.acknowledgeEarlier(batch, out)
		return
	}
	timeout, given := s.timeout(m)
	again := alone && given && timeout == 0 || len(m.ID) > 0 && string(m.ID) == s.connect.id
	switch {
	case !again:
		s.repeats = 0
		s.confirm()
	case s.repeats < maxRepeats:
		s.resend()
	default:
		s.confirm()
	}
}

// resend makes what was sent fresh again, except what is lent.
func (s *Session) resend() {
	if s.sent == (tally{}) {
		return
	}
	s.repeats++
	s.refresh(func(batch uint32) bool { return !s.isLent(batch) })
}

// timeout is how long a connect may be held, and whether the client gave it.
func (s *Session) timeout(m *bayeux.Message) (d time.Duration, given bool) {
	if m.Advice == nil || m.Advice.Timeout == nil {
		return s.cfg.Timeout, false
	}
	return s.bounded(*m.Advice.Timeout), true
}

func (s *Session) bounded(ms int64) time.Duration {
	return time.Duration(min(ms, s.cfg.MaxTimeout.Milliseconds())) * time.Millisecond
}

// unacknowledged reports whether something was sent that an ack session's
// client has not acknowledged.
func (s *Session) unacknowledged() bool { return s.ack && s.sent.events+s.sent.notices > 0 }

// answerConnect answers the current connect with all there is.
func (s *Session) answerConnect(now time.Time, out *Effects) {
	s.answerWith(now, nil, s.adviceDue(), out)
}

// answerWith does so with the given advice; before is a reply and a comma that
// precede all else, or nothing.
func (s *Session) answerWith(now time.Time, before []byte, advice *bayeux.Advice, out *Effects) {
	a := Answer{Exchange: s.connect.exchange, Status: statusOK}
	if s.connect.socket {
		a.Socket = s.socket
	}
	a.Body = append(make([]byte, 0, s.answerSize()+len(before)), '[')
	a.Body = append(a.Body, before...)
	ext := s.send(&a)
	a.Body = append(s.appendConnectReply(a.Body, now, ext, advice), ']')
	out.Answers = append(out.Answers, a)
	s.passOn(now)
	s.pump(out)
}

// answerSize guesses the size of an answer.
func (s *Session) answerSize() int {
	const reply = 256
	switch {
	case s.pushing():
		return reply
	case s.ack:
		return reply + int(s.fresh.bytes+s.sent.bytes)
	}
	return reply + int(s.fresh.bytes)
}

// send takes what goes with the current connect's answer, and returns the ext
// of its reply.
func (s *Session) send(a *Answer) extension {
	s.batch++
	c := &s.connect
	c.state, c.batch = answered, s.batch
	if s.draining && s.farewells < maxFarewells {
		s.farewells++
	}
	ext := extension{timesync: c.sync, resync: s.take(a, s.batch, true)}
	if s.ack {
		ext.ack = uint64(s.batch)
		a.Record = a.Events+len(ext.resync) > 0
	}
	c.sync = nil
	return ext
}

// appendConnectReply appends the reply to the current connect.
func (s *Session) appendConnectReply(dst []byte, now time.Time, ext extension, advice *bayeux.Advice) []byte {
	c := &s.connect
	if advice != nil {
		c.interval = max(c.interval, time.Duration(*advice.Interval)*time.Millisecond)
	}
	s.advise = false
	ok := true
	r := bayeux.Message{
		Channel: bayeux.Connect, Successful: &ok, ClientID: s.id, Advice: advice, Ext: ext.json(now),
	}
	if c.id != "" {
		r.ID = []byte(c.id)
	}
	if c.stamped {
		r.Timestamp = asNow
	}
	return appendReply(dst, now, &r)
}

// adviceDue is the advice of the current connect's answer, nil if none is due.
func (s *Session) adviceDue() *bayeux.Advice {
	switch {
	case s.draining:
		return s.advice(s.drainInterval())
	case s.connect.asked || s.advise:
		return s.advice(s.cfg.Interval)
	}
	return nil
}

// advice tells the client to go on after an interval.
func (s *Session) advice(interval time.Duration) *bayeux.Advice {
	a := bayeux.NewAdvice(bayeux.ReconnectRetry, interval, s.cfg.Timeout)
	if s.cfg.AdviseMaxInterval {
		a.WithMaxInterval(s.cfg.MaxInterval)
	}
	return a
}

// stop tells the client to stop for good.
func (s *Session) stop() *bayeux.Advice {
	return bayeux.NewAdvice(bayeux.ReconnectNone, s.cfg.Interval, s.cfg.Timeout)
}
