package holder

import (
	"fmt"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// client is a browser.
type client struct {
	w       *world
	n       int
	style   int // how it chooses edges: always the same, in turn, at random
	at      int
	session string
	born    int
	gone    bool // for good, without a word
	quiet   bool // changes nothing any more

	pos    uint64
	batch  uint32
	good   time.Duration // when all was well
	asked  uint64        // requests
	failed int           // in a row
}

// reply is what an edge answers.
type reply struct {
	kind    replyKind
	batches []sent
}

type replyKind int

const (
	replyOK replyKind = iota
	replyUnknown
	replyBusy     // try again
	replyReplaced // a newer connect took over
)

// sent is a numbered answer.
type sent struct {
	n uint32
	span
}

// request is what a client asks of an edge.
type request struct {
	id      string
	ack     uint32
	connect bool
	socket  bool
	end     bool   // disconnect
	toggle  string // a channel to subscribe to, or not any more
	reply   func(reply)
	hops    int
	via     string // the front it came through
}

// edge chooses whom to ask.
func (c *client) edge() *edgeNode {
	all := c.w.edges
	switch c.style {
	case 0:
		if c.failed > 0 {
			c.at++
		}
	case 1:
		c.at++
	default:
		if c.w.rng.IntN(3) == 0 {
			c.at = c.w.rng.IntN(len(all))
		}
	}
	return all[c.at%len(all)]
}

// next does the next thing.
func (c *client) next() {
	switch {
	case c.gone:
	case c.session == "":
		c.handshake()
	case !c.quiet && !c.w.calm && c.w.rng.IntN(25) == 0:
		c.w.trace("c%d leaves without a word", c.n)
		c.gone = true
		c.w.after(c.w.upTo(40*time.Second), c.fresh)
	case !c.quiet && c.w.rng.IntN(15) == 0:
		c.ask(&request{toggle: simChannels[c.w.rng.IntN(len(simChannels))]})
	case !c.quiet && !c.w.calm && c.w.rng.IntN(20) == 0:
		c.ask(&request{end: true})
	default:
		c.ask(&request{connect: true, ack: c.batch, socket: !c.quiet && !c.w.still && c.w.rng.IntN(30) == 0})
	}
}

// fresh begins anew.
func (c *client) fresh() {
	c.gone, c.session, c.batch = false, "", 0
	c.next()
}

func (c *client) handshake() {
	e := c.edge()
	if !e.alive {
		c.failed++
		c.w.after(200*time.Millisecond, c.next)
		return
	}
	c.failed = 0
	for n := 0; c.session == ""; n++ {
		id := fmt.Sprintf("%s-c%d-%d-%d", e.member, c.n, c.born, n)
		if shard.OfSession(id) < shard.PresenceShard(len(simShards)) {
			c.session = id
		}
	}
	c.born++
	c.batch, c.pos = 0, c.w.offset
	c.w.count.handshakes++
	c.w.sessions[c.session] = &truth{id: c.session, homes: map[home.Generation]string{}, batches: map[uint32]span{}}
	e.handshake(c.session)
	c.good = c.w.now
	c.w.after(c.w.latency(), c.next)
}

// ask sends a request and waits for what becomes of it.
func (c *client) ask(r *request) {
	w, e, open := c.w, c.edge(), true
	c.asked++
	r.id = c.session
	end := func(what func()) {
		if open {
			open = false
			what()
		}
	}
	broken := func() { // as clients notice
		c.failed++
		c.good = max(c.good, w.now)
		w.after(c.pause(), c.next)
	}
	begun, life := w.now, e.life
	r.reply = func(got reply) {
		w.after(w.latency(), func() {
			if e.alive && e.life == life {
				end(func() { c.heard(r, got, begun) })
			}
		})
	}
	w.after(w.latency(), func() {
		if !e.alive || e.life != life {
			end(func() { c.failed++; w.after(c.pause(), c.next) })
			return
		}
		e.onCrash = append(e.onCrash, func(silent bool) {
			if !silent {
				end(broken)
			}
		})
		e.request(r)
	})
	w.after(simOverdue, func() { end(broken) })
}

func (c *client) pause() time.Duration {
	return 50*time.Millisecond + c.w.upTo(200*time.Millisecond)
}

func (c *client) heard(r *request, got reply, begun time.Duration) {
	w := c.w
	switch got.kind {
	case replyUnknown:
		t := w.sessions[c.session]
		w.trace("c%d: %s is unknown", c.n, c.session)
		timely := w.now-max(c.good, begun) <= simTimely && w.now-c.good <= simTimely
		w.require(t.over || t.excused || !timely, "S10: %s is unknown, but its client was there %v ago", c.session, w.now-c.good)
		c.fresh()
		return
	case replyBusy, replyReplaced:
		c.failed++
		w.after(c.pause()+250*time.Millisecond, c.next)
		return
	}
	c.failed = 0
	c.good = w.now
	if r.end {
		w.trace("c%d: %s is over", c.n, c.session)
		w.after(w.upTo(10*time.Second), c.fresh)
		return
	}
	for _, b := range got.batches {
		w.require(b.from <= c.pos, "S4: %s is given %v, it had %d", c.session, b, c.pos)
		c.pos, c.batch = max(c.pos, b.upto), max(c.batch, b.n)
	}
	pause := 5*time.Millisecond + w.upTo(20*time.Millisecond)
	if w.rng.IntN(10) == 0 {
		pause = w.upTo(2 * time.Second)
	}
	w.after(pause, c.next)
}
