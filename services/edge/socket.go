package edge

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/deadline"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/session"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// The closing codes of WebSockets (RFC 6455, 7.4).
const (
	closeNormal  = 1000
	closeInvalid = 1007
	closeTooBig  = 1009
	closeRestart = 1012
)

// linger is how long a WebSocket stays open behind its last reply: clients
// close it themselves when they have read that.
const linger = 250 * time.Millisecond

// socket is one WebSocket. It carries at most one session at a time: the one
// whose handshake came over it, or that a message named when there was none.
// Answers go over it one frame for each frame that came, events as they come,
// each in a frame of its own that all who get it share.
type socket struct {
	service *Service // static, as are the next two
	stream  *hold.Stream
	browser string // the value of its cookie, or nothing

	client atomic.Pointer[client] // whose session it carries, or nil

	mu    sync.Mutex // leaf
	timer deadline.Entry[*socket]
	heard time.Duration // when a message came, as the service counts time
	code  uint16        // to be closed with when the timer fires, 0: none
	ended bool          // nothing is read any more

	fetching bool               // its session is brought here
	waiting  [][]bayeux.Message // frames that came meanwhile
	over     bool               // and nobody is there any more
}

// Open implements [transport.Sessions].
func (s *Service) Open(number uint64, browser string) (*hold.Stream, hold.Receiver, *web.Problem) {
	if s.draining.Load() {
		return nil, nil, web.NewProblem(http.StatusServiceUnavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING,
			"this server stops; connect again")
	}
	k := &socket{service: s, browser: browser, heard: s.sinceStart(time.Now())}
	k.stream = hold.NewStream(number, k)
	k.timer.Value = k
	if !s.sockets.add(k) {
		return nil, nil, web.NewProblem(http.StatusTooManyRequests, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"this server has as many WebSockets as it may; connect again later")
	}
	k.startTimer()
	if s.draining.Load() {
		k.endSoon(closeRestart) // the drain may have missed it
	}
	return k.stream, k, nil
}

// Message implements [hold.Receiver].
func (k *socket) Message(_ uint64, text []byte) {
	if !k.hear(time.Now()) {
		return // it ends
	}
	messages, err := bayeux.Decode(text, bayeux.Limits{})
	switch {
	case err != nil:
		k.refuse(err)
	case len(messages) > 0 && !k.keep(messages): // Faye's clients once sent empty arrays as pings
		k.take(messages)
	}
}

// Pong implements [hold.Receiver].
func (k *socket) Pong(number uint64, payload []byte) {
	if c := k.client.Load(); c != nil && len(payload) == 1 {
		c.pong(number, payload[0])
	}
}

func (k *socket) take(messages []bayeux.Message) {
	s := k.service
	r := k.request(messages)
	id, handshake := session.Route(messages)
	c := k.client.Load()
	switch {
	case handshake:
		if c != nil {
			k.client.CompareAndSwap(c, nil)
			c.unbind(k)
		}
		fresh, refusal := s.admit(messages, k.browser)
		if fresh == nil {
			k.send(frame.Text(refusal))
			return
		}
		k.carry(fresh)
		fresh.handshakeOver(k, r)
		s.missedByDrain(fresh)
		return
	case c == nil:
		c = s.registry.find(id)
		if s.refusesID(c, id, k.browser) {
			k.send(frame.Text(s.unknown(messages)))
			return
		}
		if c == nil {
			k.fetch(id, messages)
			return
		}
		k.carry(c)
	}
	if !c.receiveOver(k, r) {
		k.client.CompareAndSwap(c, nil)
		k.fetch(id, messages)
	}
}

func (k *socket) request(messages []bayeux.Message) session.Request {
	return session.Request{
		Exchange: session.Exchange(k.service.number()), Socket: k.stream.Number(), Messages: messages,
	}
}

// carry binds a session. A socket that was to be closed because its session was
// over stays.
func (k *socket) carry(c *client) {
	k.client.Store(c)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.code == closeNormal {
		k.code = 0
	}
}

// refuse closes the socket because of what came. Whatever follows could not be
// trusted to be what the client meant.
func (k *socket) refuse(err error) {
	code, detail := uint16(closeInvalid), "send a JSON array of Bayeux messages"
	if d, ok := errors.AsType[*bayeux.DecodeError](err); ok {
		k.service.metrics.refused.WithLabelValues(d.Reason).Inc()
		detail = fmt.Sprintf("%s at byte %d", d.Reason, d.Offset)
		if d.Reason != bayeux.ReasonJSONInvalid {
			code = closeTooBig
		}
	}
	k.service.cut(hold.Protocol)
	k.end(code, detail)
}

// send sends a frame and reports whether the socket is full.
func (k *socket) send(f *frame.Frame) (full bool) {
	waiting := k.stream.Send(f)
	if waiting < hold.Full {
		return false
	}
	if waiting > k.service.mostWaiting() {
		k.service.cut(hold.Slow)
		k.cut()
	}
	return true
}

// Writable implements [hold.StreamOwner].
func (k *socket) Writable(number uint64) {
	if c := k.client.Load(); c != nil {
		c.writable(number)
	}
}

// Drain implements [hold.StreamOwner].
func (k *socket) Drain(uint64) { k.drain(k.service.drainInterval()) }

// drain closes the socket, after its session has answered a held connect.
func (k *socket) drain(interval time.Duration) {
	if c := k.client.Load(); c != nil {
		c.drain(interval)
	}
	k.endSoon(closeRestart)
}

// Ended implements [hold.StreamOwner].
func (k *socket) Ended(uint64, bool) {
	k.mu.Lock()
	k.ended, k.over = true, true
	k.service.pings.Set(&k.timer, time.Time{})
	k.mu.Unlock()
	k.service.sockets.remove(k)
	if c := k.client.Load(); c != nil {
		c.unbind(k)
	}
}

// hear notes that something came, and reports whether it is to be read.
func (k *socket) hear(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.heard = k.service.sinceStart(now)
	return !k.ended
}

// isOver reports whether nobody is there any more.
func (k *socket) isOver() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.over
}

// sessionEnded lets go of a session that is over.
func (k *socket) sessionEnded(c *client, why session.Reason) {
	if !k.client.CompareAndSwap(c, nil) {
		return
	}
	switch why {
	case session.Disconnected, session.Evicted:
		k.endSoon(closeNormal)
	case session.Moved:
		k.endSoon(closeRestart)
	}
}

// tick gives a sign of life, or closes what is to be closed or used by nobody.
func (k *socket) tick(now time.Time) {
	k.mu.Lock()
	code := k.code
	silent := k.service.sinceStart(now) - k.heard
	k.mu.Unlock()
	switch {
	case code != 0:
		k.end(code, "")
	case k.client.Load() == nil && silent >= 2*k.service.cfg.Heartbeat:
		k.service.cut(hold.Idle)
		k.end(closeNormal, "no session")
	default:
		if c := k.client.Load(); c == nil || !c.beat(now, now.Add(k.service.cfg.Heartbeat)) {
			k.send(k.service.pingFrames[0])
		}
		k.startTimer()
	}
}

// startTimer has the socket hear something after a heartbeat, unless it is to be closed.
func (k *socket) startTimer() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ended && k.code == 0 {
		k.service.pings.Set(&k.timer, time.Now().Add(k.service.cfg.Heartbeat))
	}
}

// endSoon closes the socket a little later.
func (k *socket) endSoon(code uint16) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ended && k.code == 0 {
		k.code = code
		k.service.pings.Set(&k.timer, time.Now().Add(linger))
	}
}

// end closes the socket behind what waits.
func (k *socket) end(code uint16, reason string) {
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.stream.End(frame.Close(code, reason))
}

// cut ends it at once.
func (k *socket) cut() {
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.stream.Cut()
}

// Of the client, what has to do with sockets.

// handshakeOver makes the handshake that came over a socket.
func (c *client) handshakeOver(k *socket, r session.Request) {
	c.mu.Lock()
	c.socket = k
	c.begin(r)
	c.unbindEnded(k)
}

// receiveOver takes what came over a socket, unless the session has left.
func (c *client) receiveOver(k *socket, r session.Request) bool {
	c.mu.Lock()
	if c.session.Overtaken(r.Messages) {
		c.leaveOvertaken()
		return false
	}
	if c.session.Ended() == session.Moved {
		c.mu.Unlock()
		return false
	}
	if before := c.socket; before != nil && before != k {
		before.client.CompareAndSwap(c, nil)
	}
	c.socket = k
	c.take(r)
	c.unbindEnded(k)
	return true
}

// unbindEnded lets go of a socket that ended before it was bound.
func (c *client) unbindEnded(k *socket) {
	if k.isOver() {
		c.unbind(k)
	}
}

// unbind lets go of a socket.
func (c *client) unbind(k *socket) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	if c.socket == k {
		c.socket = nil
	}
	c.session.Unbind(now, k.stream.Number(), &out)
	c.settle(now, &out)
}

func (c *client) writable(number uint64) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Writable(now, number, &out)
	c.settle(now, &out)
}

func (c *client) pong(number uint64, ping byte) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Pong(now, number, ping, &out)
	c.settle(now, &out)
}

// reply sends an answer over its socket.
func (c *client) reply(now time.Time, a *session.Answer) {
	k := c.carrier(a.Socket)
	if k == nil {
		return // gone meanwhile
	}
	c.sendOver(now, k, frame.Text(a.Body))
	c.service.written(now, a.Events, nanoseconds(a.Newest))
}

// push sends events over the session's socket, and a ping.
func (c *client) push(now time.Time, p *session.Pushes) {
	k := c.carrier(p.Socket)
	if k == nil {
		return
	}
	for e := range p.All() {
		c.sendOver(now, k, e.Frame(p.As))
		c.service.written(now, 1, nanoseconds(e.Appended()))
	}
	if p.Ping != 0 {
		c.sendOver(now, k, c.service.pingFrames[p.Ping])
	}
}

func (c *client) sendOver(now time.Time, k *socket, f *frame.Frame) {
	if k.send(f) {
		c.session.Blocked(now, k.stream.Number())
	}
}

func (c *client) carrier(number uint64) *socket {
	if c.socket != nil && c.socket.stream.Number() == number {
		return c.socket
	}
	return c.service.sockets.find(number)
}
