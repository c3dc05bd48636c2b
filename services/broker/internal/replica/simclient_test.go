package replica

import "strconv"

// client publishes, each message until it is acknowledged, and follows a slot
// by position.
type client struct {
	w    *world
	id   int
	made int
	op   *publish

	position uint64 // of the follower
	slot     int
}

// publish is one message.
type publish struct {
	c       *client
	slot    int
	channel string
	key     string
	call    int64
	acked   bool
}

func (op *publish) done(now int64, base, _ uint64) {
	if op.acked {
		return
	}
	op.acked = true
	op.c.w.record(op.slot, base, operation{client: op.c.id, call: op.call, end: now, key: op.key})
	if op.c.op == op {
		op.c.op = nil
	}
}

// query reads a channel's history.
type query struct {
	client  int
	slot    int
	channel string
	call    int64

	position uint64 // after which to read, if there was nothing
}

func (q *query) answer(w *world, p *place) {
	if q.channel == "" {
		p.book.require(p.log.base > q.position || p.log.end() >= q.position,
			"R11: %s ends at %d, %d was delivered before", p.n.member, p.log.end(), q.position)
		return
	}
	var read []string
	all, _ := p.log.read(p.log.base)
	for _, e := range all {
		if e.Channel == q.channel {
			read = append(read, e.Key)
		}
	}
	w.record(q.slot, p.log.base, operation{client: q.client, call: q.call, end: w.now, channel: q.channel, read: read})
	w.count.reads++
}

var channels = []string{"/a", "/b"}

// step tries to publish what is to be published.
func (c *client) step() {
	w := c.w
	if c.op == nil && (w.calm || c.made >= w.opt.publishes) {
		return
	}
	c.next(w.rng.IntN(len(w.books)))
	if n := c.pick(c.op.slot); n != nil {
		n.places[c.op.slot].publish(c.op)
	}
}

// next is what the client is about to publish.
func (c *client) next(slot int) *publish {
	if c.op == nil {
		c.made++
		c.op = &publish{
			c:       c,
			slot:    slot,
			channel: channels[c.w.rng.IntN(len(channels))],
			key:     strconv.Itoa(c.id) + "-" + strconv.Itoa(c.made),
			call:    c.w.now,
		}
		c.w.publishes = append(c.w.publishes, c.op)
	}
	return c.op
}

// pick returns a node that may lead a slot, or any.
func (c *client) pick(slot int) *node {
	n := c.w.nodes[c.w.rng.IntN(len(c.w.nodes))]
	if row := c.w.books[slot].row(); row.Version > 0 && (c.w.calm || c.w.rng.IntN(3) > 0) {
		n = c.w.nodes[nameOf(row.Primary)]
	}
	if !n.runs() {
		return nil
	}
	return n
}

// read follows a slot, or asks for a channel's history.
func (c *client) read() {
	n := c.pick(c.slot)
	if n == nil || n.places[c.slot].rep.lead == nil {
		return
	}
	p := n.places[c.slot]
	if !p.serving { // and if it answered, it should say so
		if c.position >= p.log.base && c.position <= p.log.end() {
			p.log.read(c.position)
		}
		return
	}
	if len(p.reads) < 3 && c.w.rng.IntN(2) == 0 {
		p.reads = append(p.reads, &query{client: c.id, slot: c.slot, channel: channels[c.w.rng.IntN(len(channels))], call: c.w.now})
		return
	}
	if p.log.base < c.position && p.book.of(p.log.base).end() < c.position {
		return // an incarnation that is over
	}
	c.position = max(c.position, p.log.base)
	if c.position > p.log.end() { // maybe it has been replaced
		p.reads = append(p.reads, &query{client: c.id, slot: c.slot, call: c.w.now, position: c.position})
		return
	}
	all, ok := p.log.read(c.position)
	if !ok {
		return // it will be committed
	}
	inc := p.book.of(p.log.base)
	p.book.require(c.position+uint64(len(all)) == p.log.commit, "R11: %s reads %d after %d", n.member, len(all), c.position)
	for _, e := range all {
		c.position++
		p.book.require(e.Offset == c.position && inc.has(e), "R11: %s delivers %+v at %d", n.member, e, c.position)
	}
}
