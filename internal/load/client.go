package load

import (
	"errors"
	"fmt"
	"time"
)

const (
	// attempts is how often a client tries to subscribe for the first time.
	attempts = 4
	// retryAfter is the pause before the first attempt that follows a failure.
	retryAfter = 200 * time.Millisecond
	// maxRetryAfter bounds that pause.
	maxRetryAfter = 5 * time.Second
	// setupTimeout is how long one attempt may take.
	setupTimeout = 20 * time.Second
)

// session is one client's part in a transport's protocol. It does no input or
// output of its own: it takes what was received, and appends what is to be
// sent.
type session interface {
	// begin is called when a connection is up, also when it replaces another.
	begin(out []byte) []byte
	// input takes what was received. After an error the connection is closed.
	input(in, out []byte) ([]byte, error)
	// wake is called when the pause is over that input asked for.
	wake(out []byte) []byte
}

// client is one subscriber of one channel, over one connection at a time.
type client struct {
	tally   *tally
	session session
	number  int
	channel uint16

	// now is the time of what is being handled; who handles it sets it.
	now time.Duration
	// alarm is when to call timer; 0: never.
	alarm time.Duration
	armed time.Duration // the alarm that a worker knows of

	sequence sequence
	cursor   []byte // where to resume
	phase    clientPhase
	joined   bool // has been subscribed
	fd       int  // the connection's, while there is one and where that matters
	tries    int
	began    time.Duration
}

type clientPhase uint8

const (
	waiting clientPhase = iota // for a connection
	opening                    // on the way to a subscription
	live                       // subscribed
	over                       // given up
)

// errClosed is a connection's end.
var errClosed = errors.New("the server closed a connection")

// again is the error of a session that wants a new connection, in good order.
type again struct {
	after  time.Duration
	reason string
}

func (a *again) Error() string { return a.reason }

// open says that a connection is being made.
func (c *client) open() {
	c.phase, c.began = opening, c.now
	c.alarm = c.now + setupTimeout
	c.tally.opening++
}

// subscribed says that the server has confirmed the subscription.
func (c *client) subscribed() {
	if c.phase != opening {
		return
	}
	c.phase, c.tries, c.alarm = live, 0, 0
	c.tally.opening--
	c.tally.live++
	if !c.joined {
		c.joined = true
		c.tally.joined++
		c.tally.complete = c.now
		record(c.tally.setup, c.now-c.began)
	}
}

// pause asks for a call of wake.
func (c *client) pause(d time.Duration) { c.alarm = c.now + max(d, 1) }

// lost says that the connection is gone, and sets the alarm for the next.
func (c *client) lost(err error) {
	t := c.tally
	t.fault(err)
	if c.phase == live {
		t.live--
	} else {
		t.opening--
	}
	c.phase = waiting
	c.tries++
	after := min(time.Duration(c.tries)*retryAfter, maxRetryAfter)
	if e, ok := errors.AsType[*again](err); ok {
		after = e.after
	}
	switch {
	case c.joined:
		t.reconnects++
		c.sequence.resume()
	case c.tries >= attempts:
		t.failed++
		c.phase, c.alarm = over, 0
		return
	default:
		t.retries++
	}
	c.alarm = c.now + max(after, 1)
}

// timer is called when the alarm is due on a client with a connection.
func (c *client) timer(out []byte) ([]byte, error) {
	c.alarm = 0
	if c.phase == opening {
		return out, fmt.Errorf("no subscription within %v", setupTimeout)
	}
	return c.session.wake(out), nil
}

// take counts the messages in a piece of text, and returns what is behind the
// last, and how many there were.
func (c *client) take(text []byte) (rest []byte, n int) {
	for {
		s, before, after, ok := nextStamp(text)
		if !ok {
			return text, n
		}
		c.deliver(s)
		if at := positionBefore(before); at != nil {
			c.cursor = append(c.cursor[:0], at...)
		}
		text = after
		n++
	}
}

func (c *client) deliver(s stamp) {
	t := c.tally
	if s.channel != c.channel {
		t.strays++
		return
	}
	v := c.sequence.see(s.seq)
	switch {
	case v.repeat:
		t.repeats++
	case v.late:
		t.late++
		t.gaps--
	}
	t.gaps += int(v.missed)
	if v.fresh && s.due >= t.from {
		t.delivered++
		record(t.latency, c.now-s.due)
	}
}
