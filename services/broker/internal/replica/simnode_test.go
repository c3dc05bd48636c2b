package replica

import (
	"slices"
	"strconv"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// node is a broker process: the shell around its replicas.
type node struct {
	w      *world
	index  int
	logID  int
	member string

	alive, paused bool
	cut           bool // from etcd
	places        []*place
	streams       []*stream // the present one to each node
	tick          int64     // when the next one is due
	ticks         int

	leased   bool     // it holds a key, and read all rows since it was made
	unread   bool     // it holds a key
	renewals []int64  // when those were sent whose answers are on their way
	seen     []int    // rows watched, by slot
	crashed  []*place // with a disk: what is left
}

// place is one slot at a node.
type place struct {
	n    *node
	slot int
	rep  *Replica
	log  *simLog
	book *ledger
	out  Effects
	turn bool // asked for

	serving  bool
	relaying bool
	relayed  uint64 // what followers have, while it relays
	followed bool   // there are some
	leads    uint64 // term in which it was seen to lead
	term     uint64 // highest it was told
	waiting  []waiting
	dirty    bool // appended, not told
	reading  bool
	reads    []*query

	began     int // tick at which it began to lead
	inherited uint64
	made      []int // ticks at which the entries since were appended
	news      map[string]*news
}

// news is what a primary heard of a member, in ticks.
type news struct {
	end   uint64
	tick  int // of that
	alive int // tick of the last sign of life
	moved int // tick at which its stream began or ended

	removed int // tick at which it was removed, though desired; 0: it was not, or was not desired since
}

// waiting is a publish that waits for its commit.
type waiting struct {
	op     *publish
	offset uint64
}

const (
	millisecond = int64(time.Millisecond)
	tickEvery   = 100 * millisecond
	leaseTTL    = 600 * millisecond
	heartbeat   = 3 // ticks
	patience    = 4
	probation   = 8
)

func (w *world) clock() time.Time { return time.Unix(0, w.now) }

func (n *node) start() {
	if !w0disk(n) {
		n.logID++
	}
	n.member = "n" + strconv.Itoa(n.index) + "@" + strconv.Itoa(n.logID)
	n.alive, n.paused, n.leased, n.unread = true, false, false, false
	n.renewals = nil
	n.streams = make([]*stream, len(n.w.nodes))
	n.seen = make([]int, len(n.w.books))
	n.tick = n.w.now + int64(n.w.rng.IntN(int(tickEvery)))
	n.places, n.w.logs[n.member] = nil, nil
	for s, book := range n.w.books {
		p := &place{n: n, slot: s, book: book, news: map[string]*news{}}
		p.log = newSimLog(book, n.member, n.w.opt.keep, n.w.opt.disk)
		if n.crashed != nil {
			p.log = n.crashed[s].log
		}
		p.rep = New(Config{
			Self:         n.member,
			MinInSync:    n.w.opt.minInSync,
			UncleanAfter: time.Duration(n.w.opt.unclean),
			Window:       n.w.opt.window,
			Batch:        n.w.opt.batch,
			Piece:        n.w.opt.batch,
			Patience:     patience,
			Probation:    probation,
		}, p.log)
		n.places = append(n.places, p)
		n.w.logs[n.member] = append(n.w.logs[n.member], p.log)
	}
	n.crashed = nil
	n.w.trace("%s starts", n.member)
}

func w0disk(n *node) bool { return n.w.opt.disk && n.crashed != nil }

func (n *node) crash() {
	n.w.trace("%s crashes", n.member)
	n.alive = false
	if n.w.opt.disk {
		for _, p := range n.places {
			p.log.crash()
		}
		n.crashed = n.places
	}
	for _, s := range n.w.streams {
		if s.ends[0].n == n || s.ends[1].n == n {
			n.w.breakStream(s)
		}
	}
}

// run reports whether the process does anything.
func (n *node) runs() bool { return n.alive && !n.paused }

func (n *node) reaches() bool { return n.runs() && !n.cut && !n.w.etcd.down }

// perform carries out the effects of an event.
func (p *place) perform() {
	w, out := p.n.w, &p.out
	w.now++ // so that of two events one is the later
	for _, a := range out.Alarms {
		p.book.require(false, "%s: alarm: %s %s %v", p.n.member, a.What, a.Member, a.Err)
	}
	if out.Stop {
		w.trace("%s stops", p.n.member)
		p.serving, p.relaying, p.waiting, p.reads = false, false, nil, nil
	}
	if l := p.rep.lead; l != nil && p.leads != p.rep.term {
		w.trace("%s leads in term %d, set %v, log %d..%d", p.n.member, p.rep.term, p.rep.row.InSync, p.log.commit, p.log.end())
		p.leads = p.rep.term
		p.book.leads(p.log)
		w.count.leads++
		p.began, p.inherited, p.made, p.news = p.n.ticks, p.log.end(), nil, map[string]*news{}
	}
	if out.Commit > 0 {
		p.commit(out.Commit)
	}
	if out.Serve {
		p.serving = true
		p.book.serves(p.log)
	}
	if out.Relay {
		w.trace("%s relays", p.n.member)
		p.relaying, p.relayed = true, p.log.commit
		w.count.relays++
	}
	for _, s := range out.Sends {
		w.send(p, s.To, s.Message)
	}
	if out.Write != nil {
		p.wrote(out.Write)
	}
	p.turn = p.turn || out.Move
	if out.Read {
		p.reading = true
	}
	out.Reset()
}

func (p *place) commit(upto uint64) {
	p.n.w.trace("%s commits %d", p.n.member, upto)
	p.book.require(upto > p.log.commit, "R10: %s commits %d after %d", p.n.member, upto, p.log.commit)
	if p.rep.lead == nil {
		p.book.learned(p.log, upto)
	}
	p.book.committed(p.log, upto)
	p.log.commitTo(upto)
	if p.relaying {
		p.relayed = upto
	}
	if p.rep.lead == nil {
		return
	}
	still := p.waiting[:0]
	for _, x := range p.waiting {
		switch {
		case x.offset > upto:
			still = append(still, x)
		case !p.out.Few:
			p.answer(x)
		}
	}
	p.waiting = still
}

// answer acknowledges a publish; the answer may be lost.
func (p *place) answer(x waiting) {
	p.book.acknowledged(p.log, x.op.key, x.offset)
	if p.n.w.calm || p.n.w.rng.IntN(8) > 0 {
		p.n.w.trace("%s acknowledges %s at %d", p.n.member, x.op.key, x.offset)
		x.op.done(p.n.w.now, p.log.base, x.offset)
	}
}

// unfollowed says why those who follow this place are not well off.
func (p *place) unfollowed() string {
	asOf, ok := p.rep.AsOf(p.n.w.clock())
	switch {
	case p.rep.lead == nil && !p.relaying:
		return p.n.member + " does not relay"
	case !ok || p.n.w.now-asOf.UnixNano() > 2*patience*tickEvery:
		return p.n.member + " is stale"
	}
	return ""
}

func (p *place) row(row shard.Row) {
	p.term = max(p.term, row.Term)
	for m, n := range p.news {
		if !slices.Contains(row.Replicas, m) {
			n.removed = 0
		}
	}
	p.rep.Row(p.n.w.clock(), row, &p.out)
	p.perform()
}

func (p *place) receive(from string, m Message) {
	before := p.term
	p.heard(from, 0)
	switch m := m.(type) {
	case *Lead:
		p.term = max(p.term, m.Term)
	case *Append:
		p.term = max(p.term, m.Term)
	case *Piece:
		p.term = max(p.term, m.Term)
	case *Ack:
		if m.Term == p.rep.term {
			p.heard(from, m.End)
		}
	case *Refuse:
		p.term = max(p.term, m.Term)
	}
	end := p.log.end()
	p.rep.Receive(p.n.w.clock(), from, m, &p.out)
	if a, ok := m.(*Append); ok && a.Term < before { // R4
		p.book.require(p.log.end() == end && (p.out.Commit == 0 || p.rep.lead != nil),
			"R4: %s takes something of term %d after %d", p.n.member, a.Term, before)
	}
	p.perform()
}

// sends checks what a member says (R3, R4).
func (p *place) says(m Message) {
	var term, end uint64
	switch m := m.(type) {
	case *State:
		term = m.Term
	case *Ack:
		term, end = m.Term, m.End
		p.book.require(end <= p.log.Held(), "R3: %s acknowledges %d and holds %d", p.n.member, end, p.log.Held())
	default:
		return
	}
	p.book.require(term == p.term, "R4: %s answers in term %d after %d", p.n.member, term, p.term)
}

// heard takes note of a sign of life, with progress or not.
func (p *place) heard(from string, end uint64) {
	if p.news[from] == nil {
		p.news[from] = &news{tick: p.began}
	}
	n := p.news[from]
	n.alive = p.n.ticks
	if end > n.end {
		n.end, n.tick = end, p.n.ticks
	}
}

// moved takes note that a stream began or ended.
func (p *place) moved(from string) {
	if n := p.news[from]; n != nil {
		n.moved = p.n.ticks
	}
}

// publish tries to append; false: refused.
func (p *place) publish(op *publish) {
	if p.rep.Admit(p.n.w.clock()) != nil || p.log.end()-p.log.commit > 20 {
		return
	}
	p.book.require(len(p.rep.row.InSync) >= p.n.w.opt.minInSync, "rule 30: %s accepts with the set %v", p.n.member, p.rep.row.InSync)
	for _, x := range p.waiting {
		if x.op == op {
			return
		}
	}
	offset, duplicate := p.log.append(op.channel, op.key)
	p.n.w.trace("%s appends %s at %d (duplicate %v)", p.n.member, op.key, offset, duplicate)
	x := waiting{op, offset}
	if duplicate {
		if offset <= p.log.commit {
			p.answer(x)
			return
		}
	} else {
		p.dirty = true
		p.made = append(p.made, p.n.ticks)
	}
	p.waiting = append(p.waiting, x)
	if p.n.w.calm || p.n.w.rng.IntN(4) > 0 {
		p.flush()
	}
}

func (p *place) flush() {
	if p.dirty {
		p.dirty = false
		p.rep.Appended(p.n.w.clock(), &p.out)
		p.perform()
	}
}

// step is a tick of the process.
func (n *node) step() {
	n.ticks++
	n.tick = n.w.now + tickEvery
	for _, p := range n.places {
		p.flush()
		p.rep.Tick(n.w.clock(), &p.out)
		p.perform()
		if p.followed = n.w.calm || n.w.rng.IntN(8) > 0 && (p.followed || n.w.rng.IntN(4) == 0); p.followed {
			p.rep.Followed(n.w.clock(), &p.out)
			p.perform()
		}
		if p.turn && (n.w.calm || n.w.rng.IntN(2) > 0) {
			p.turn = false
			p.rep.Turn(n.w.clock(), &p.out)
			p.perform()
		}
	}
	if n.ticks%heartbeat == 0 {
		for _, s := range n.streams {
			if s != nil {
				n.w.push(s, n, frame{kind: ping, sent: n.w.now})
			}
		}
	}
	n.renew()
	n.observe()
}

// observe checks freshness marks, and answers reads that wait for one.
func (n *node) observe() {
	for _, p := range n.places {
		asOf, ok := p.rep.AsOf(n.w.clock())
		if !ok || n.w.opt.chaos {
			continue
		}
		p.book.fresh(p.log, asOf.UnixNano())
		still := p.reads[:0]
		for _, q := range p.reads {
			if asOf.UnixNano() < q.call {
				still = append(still, q)
				continue
			}
			q.answer(n.w, p)
		}
		p.reads = still
	}
}

// renew keeps the node's key, or makes a new one.
func (n *node) renew() {
	w := n.w
	if !n.reaches() {
		return
	}
	k := &w.etcd.keys[n.index]
	switch {
	case k.member != n.member || k.expires <= w.now || !n.leased && !n.unread:
		*k = key{n.member, w.now + leaseTTL, w.now}
		n.leased, n.unread = false, true
		w.trace("%s registers", n.member)
	case n.unread:
		k.expires = w.now + leaseTTL
		n.unread, n.leased = false, true
		for _, p := range n.places {
			w.readRow(p)
		}
	default:
		k.expires = w.now + leaseTTL
		if w.calm || w.rng.IntN(5) > 0 {
			n.renewals = append(n.renewals, w.now)
		}
	}
	for len(n.renewals) > 0 && (w.calm || w.rng.IntN(3) > 0) {
		sent := n.renewals[0]
		n.renewals = n.renewals[1:]
		for _, p := range n.places {
			p.rep.Renewed(w.clock(), w.at(sent), &p.out)
			p.perform()
		}
	}
}
