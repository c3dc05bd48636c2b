package edge

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/deadline"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// client is the shell of one session: its lock, its exchanges, its WebSocket and
// its effects.
//
// Each call of the session is one method: lock, call, settle. Answers are
// handed to their exchanges, and events to the socket, under the lock. All other
// effects are carried out without it, in order, by one goroutine at a time:
// whoever finds nobody at it.
//
// There are as many as there are browsers, so it is small.
type client struct {
	service *Service         // static, as are the next two
	session *session.Session // guarded by mu but for its ids
	since   time.Duration    // when it began, as the service counts time

	mu        sync.Mutex // guards what follows; calls under it take leaf locks only
	socket    *socket    // the last WebSocket that brought something, nil if it is gone
	exchanges []exchange // in one while there is but one
	one       [1]exchange
	effects   []session.Effects // to be carried out
	seat      home.Seat         // the part of this edge in the session
	timer     deadline.Entry[*client]
	wake      time.Duration // what timer is set to, as the service counts time
	holding   bool          // a connect is held, and counted
	busy      bool          // somebody carries effects out
	behind    bool          // its record says more than the vector does
	leaving   bool          // another edge has claimed it: nothing new is begun

	publishes atomic.Int32 // unanswered
}

// exchange is an HTTP request that is not answered, or whose answer is on its
// way.
type exchange struct {
	*hold.Exchange

	browser browser // counts it, 0: none
	newest  int64   // when the newest event of its answer was appended, in ns; 0: unknown
	events  int     // in its answer
}

func (c *client) handshake(e *hold.Exchange, r session.Request) {
	c.mu.Lock()
	c.expect(exchange{Exchange: e})
	c.begin(r)
}

// begin makes the handshake. It takes the lock over.
func (c *client) begin(r session.Request) {
	now := time.Now()
	var out session.Effects
	c.session.Handshake(now, r, &out)
	if out.Ended == "" {
		c.service.reports.Changed(c.session.PublicID()) // before anything can end it
	}
	c.settle(now, &out)
}

// receive takes a request unless the session has left. front is through which
// edge it came; settled: the session should move there.
func (c *client) receive(x exchange, front string, r session.Request) (settled, here bool) {
	c.mu.Lock()
	if c.session.Overtaken(r.Messages) {
		c.leaveOvertaken()
		return false, false
	}
	connect := isConnect(r.Messages)
	switch {
	case c.session.Ended() == session.Moved, c.leaving && !connect:
		c.mu.Unlock()
		return false, false
	case connect:
		settled = c.seat.Through(front, time.Now())
	case len(c.exchanges) >= c.service.cfg.Requests:
		c.mu.Unlock()
		x.Answer(hold.Answer{Status: http.StatusTooManyRequests})
		return false, true
	}
	c.expect(x)
	c.take(r)
	return settled, true
}

// isConnect reports whether a request is a connect alone: it may replace one.
func isConnect(messages []bayeux.Message) bool {
	return len(messages) == 1 && messages[0].Channel == bayeux.Connect
}

// take gives the session a request. It takes the lock over.
func (c *client) take(r session.Request) {
	now := time.Now()
	var out session.Effects
	before := c.session.Transport()
	c.session.Receive(now, r, &out)
	if after := c.session.Transport(); after != before && c.session.Ended() == "" {
		c.service.reports.Changed(c.session.PublicID())
	}
	c.settle(now, &out)
}

// Written implements [hold.Owner].
func (c *client) Written(number uint64) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	x := c.forget(number)
	c.session.Written(now, session.Exchange(number), &out)
	c.settle(now, &out)
	c.service.written(now, x.events, x.newest)
	c.service.unanswered.done()
}

// Lost implements [hold.Owner].
func (c *client) Lost(number uint64) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	x := c.forget(number)
	c.session.Lost(now, session.Exchange(number), &out)
	c.settle(now, &out)
	c.service.browsers.leave(x.browser, c)
	c.service.unanswered.done()
}

// Drain implements [hold.Owner].
func (c *client) Drain(uint64) { c.drain(c.service.drainInterval()) }

func (c *client) drain(interval time.Duration) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	k := c.socket
	if k != nil { // which the client is to find closed
		interval = max(interval, 2*linger)
	}
	c.session.Drain(now, interval, c.service.arrivals.records.Kept(c.session.PublicID()), &out)
	c.settle(now, &out)
	if k != nil {
		k.endSoon(closeRestart)
	}
}

// await gives the client longer: it may not have noticed that the edge through
// which it connected is lost.
func (c *client) await() {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Await(now, c.service.adoptable())
	c.settle(now, &out)
}

// hurry answers a held connect early.
func (c *client) hurry(number uint64) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Hurry(now, session.Exchange(number), &out)
	c.settle(now, &out)
}

func (c *client) end(reason session.Reason) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.End(now, reason, &out)
	c.settle(now, &out)
}

// Deliver implements [hub.Subscriber].
func (c *client) Deliver(via string, e *event.Event) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Deliver(now, via, e, &out)
	c.settle(now, &out)
}

// Resync implements [hub.Subscriber].
func (c *client) Resync(channel string, _ shard.Position) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Resync(now, channel)
	c.settle(now, &out)
}

// Subscribed implements [hub.Subscriber]: the hub is locked, so effects wait
// for Settle.
func (c *client) Subscribed(token uint64, from []shard.Position, err *bayeux.Error) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	defer c.mu.Unlock()
	c.session.Subscribed(now, token, from, err, &out)
	if c.settleLocked(now, &out) {
		c.effects = append(c.effects, out)
	}
}

// placed answers for a pattern where it begins; none: it is not joined any more.
func (c *client) placed(i session.Interest, from []shard.Position) {
	var out session.Effects
	var err *bayeux.Error
	if from == nil {
		err = bayeux.Unavailable()
	}
	c.mu.Lock()
	now := time.Now()
	c.session.Subscribed(now, i.Token, from, err, &out)
	c.settle(now, &out)
}

// Settle implements [hub.Subscriber].
func (c *client) Settle() {
	c.mu.Lock()
	c.carryOut()
}

func (c *client) published(token uint64, err *bayeux.Error) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Published(now, token, err, &out)
	c.settle(now, &out)
}

func (c *client) replayed(token uint64, page session.Page, err *bayeux.Error) {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	c.session.Replayed(now, token, page, err, &out)
	c.settle(now, &out)
}

// send queues a message for this session alone and reports whether it lives.
func (c *client) send(e *event.Event) bool {
	var out session.Effects
	c.mu.Lock()
	now := time.Now()
	alive := c.session.Ended() == ""
	c.session.Send(now, e, &out)
	c.settle(now, &out)
	return alive
}

func (c *client) tick(now time.Time) {
	var out session.Effects
	c.mu.Lock()
	c.wake = 0 // the timer let go of it
	c.session.Tick(now, &out)
	c.settle(now, &out)
}

// beat gives a sign of life over the socket by an answer that is due before the
// next one, or reports that there is none.
func (c *client) beat(now, next time.Time) bool {
	var out session.Effects
	c.mu.Lock()
	beat := c.session.Beat(now, next, &out)
	c.settle(now, &out)
	return beat
}

// settle ends a call of the session. It takes the lock over.
func (c *client) settle(now time.Time, out *session.Effects) {
	if !c.settleLocked(now, out) {
		c.mu.Unlock()
		return
	}
	c.effects = append(c.effects, *out)
	c.carryOut()
}

// settleLocked hands over answers and events, sets the timer, and reports
// whether there is more to carry out.
func (c *client) settleLocked(now time.Time, out *session.Effects) bool {
	for i := range out.Answers {
		if a := &out.Answers[i]; !a.Record || !c.record(*a) {
			c.answer(now, a)
		}
	}
	if out.Pushes.Socket != 0 {
		c.push(now, &out.Pushes)
	}
	if wake := c.service.sinceStart(c.session.Deadline()); wake != c.wake {
		c.wake = wake
		c.service.timers(c).Set(&c.timer, c.session.Deadline())
	}
	if holding := c.session.Holding(); holding != c.holding {
		c.holding = holding
		c.service.countHeld(holding)
	}
	c.service.dropped(&out.Dropped)
	for _, what := range out.Carried {
		c.service.orders.carried(c, what)
	}
	if out.Ended != "" {
		c.service.orders.over(c, out.Ended)
	}
	if out.Ended != "" && c.socket != nil {
		c.socket.sessionEnded(c, out.Ended)
		c.socket = nil
	}
	asks := len(out.Interests) + len(out.Publishes) + len(out.Replays) + len(out.Places)
	return asks+len(out.Joined)+len(out.Left)+len(out.Stray) > 0 || out.Ended != ""
}

func (c *client) answer(now time.Time, a *session.Answer) {
	if a.Socket != 0 {
		c.reply(now, a)
		return
	}
	x := c.find(uint64(a.Exchange))
	if x == nil {
		return // lost meanwhile
	}
	c.service.browsers.leave(x.browser, c)
	x.browser = 0
	x.events, x.newest = a.Events, nanoseconds(a.Newest)
	x.Answer(hold.Answer{Status: a.Status, Body: a.Body, Left: c.session.Ended() == session.Moved})
}

// expect notes an exchange.
func (c *client) expect(x exchange) {
	if len(c.exchanges) == 0 {
		c.exchanges = c.one[:0]
	}
	c.exchanges = append(c.exchanges, x)
}

func (c *client) find(number uint64) *exchange {
	i := slices.IndexFunc(c.exchanges, func(x exchange) bool { return x.Number() == number })
	if i < 0 {
		return nil
	}
	return &c.exchanges[i]
}

func (c *client) forget(number uint64) exchange {
	x := c.find(number)
	if x == nil {
		return exchange{}
	}
	forgotten := *x
	last := len(c.exchanges) - 1
	*x = c.exchanges[last]
	c.exchanges[last] = exchange{}
	c.exchanges = c.exchanges[:last]
	if last == 0 {
		c.exchanges = nil
	}
	return forgotten
}

// carryOut carries out effects unless somebody else is at it. It takes the
// lock over.
func (c *client) carryOut() {
	if c.busy {
		c.mu.Unlock()
		return
	}
	c.busy = true
	for len(c.effects) > 0 {
		effects := c.effects
		c.effects = nil
		c.mu.Unlock()
		for i := range effects {
			c.service.carryOut(c, &effects[i])
		}
		c.mu.Lock()
	}
	c.busy = false
	c.mu.Unlock()
}
