package replica

import "slices"

// stream is one connection of two processes, both ways.
type stream struct {
	id     int
	ends   [2]*end
	broken bool
}

// end is what is on its way to one of them.
type end struct {
	n      *node
	member string
	queue  []frame
}

type frame struct {
	kind    kind
	slot    int
	message Message
	sent    int64
}

type kind int

const (
	up kind = iota // first on every stream
	down
	carries
	ping
	pong
)

func (w *world) connect(a, b *node) {
	if !a.alive || !b.alive || w.blocked(a, b) {
		return
	}
	for _, s := range w.streams {
		if !s.broken && s.between(a, b) {
			return
		}
	}
	w.streamIDs++
	s := &stream{id: w.streamIDs, ends: [2]*end{{n: a, member: a.member}, {n: b, member: b.member}}}
	for _, e := range s.ends {
		e.queue = append(e.queue, frame{kind: up})
	}
	w.streams = append(w.streams, s)
}

func (s *stream) between(a, b *node) bool {
	return s.ends[0].n == a && s.ends[1].n == b || s.ends[0].n == b && s.ends[1].n == a
}

func (s *stream) toward(n *node) (there, here *end) {
	if s.ends[0].n == n {
		return s.ends[1], s.ends[0]
	}
	return s.ends[0], s.ends[1]
}

// breakStream loses some of what is on its way.
func (w *world) breakStream(s *stream) {
	if s.broken {
		return
	}
	s.broken = true
	for _, e := range s.ends {
		if n := len(e.queue); n > 0 && !w.calm {
			e.queue = e.queue[:w.rng.IntN(n+1)]
		}
		e.queue = append(e.queue, frame{kind: down})
	}
}

// send puts a message on the stream to a member, if there is one.
func (w *world) send(p *place, to string, m Message) {
	p.says(m)
	for i, s := range p.n.streams {
		if s == nil || i == p.n.index {
			continue
		}
		if there, _ := s.toward(p.n); there.member == to {
			w.trace("%s -> %s: %T%+v", p.n.member, to, m, m)
			w.push(s, p.n, frame{kind: carries, slot: p.slot, message: m})
		}
	}
}

func (w *world) push(s *stream, from *node, f frame) {
	if s.broken {
		return
	}
	there, _ := s.toward(from)
	there.queue = append(there.queue, f)
	_, ack := f.message.(*Ack)
	if w.opt.chaos && f.kind == carries && (ack || w.rng.IntN(8) == 0) {
		w.old = append(w.old, echo{s, there, f})
	}
	if w.opt.chaos && !w.calm && f.kind == carries {
		switch w.rng.IntN(16) {
		case 0:
			there.queue = there.queue[:len(there.queue)-1]
		case 1:
			there.queue = append(there.queue, f)
		case 2, 3: // overtakes another message
			q := there.queue
			if i := len(q) - 2; i >= 0 && q[i].kind == carries {
				q[i], q[i+1] = q[i+1], q[i]
			}
		}
	}
}

// echo is a frame that comes again.
type echo struct {
	s *stream
	e *end
	f frame
}

// repeat brings an old frame once more.
func (w *world) repeat() {
	if len(w.old) == 0 {
		return
	}
	o := w.old[w.rng.IntN(len(w.old))]
	if q := o.e.queue; len(q) == 0 || q[0].kind != up {
		o.e.queue = slices.Insert(q, 0, o.f)
		w.deliver(o.s, o.e)
	}
}

// deliver hands over the next frame of one end; false if there is none.
func (w *world) deliver(s *stream, e *end) bool {
	if len(e.queue) == 0 {
		return false
	}
	if !e.n.alive || e.n.member != e.member {
		e.queue = nil
		return false
	}
	if e.n.paused || !w.calm && w.blocked(s.ends[0].n, s.ends[1].n) {
		return false
	}
	f := e.queue[0]
	e.queue = e.queue[1:]
	from, _ := s.toward(e.n)
	current := e.n.streams[from.n.index]
	switch {
	case f.kind == up && (current == nil || current.id < s.id):
		if current != nil {
			old, _ := current.toward(e.n)
			e.n.downs(old.member)
		}
		e.n.streams[from.n.index] = s
		if w.rng.IntN(2) == 0 { // a ping may come before anything of a slot
			w.push(s, e.n, frame{kind: ping, sent: w.now})
		}
		for _, p := range e.n.places {
			p.moved(from.member)
			p.rep.Up(from.member, &p.out)
			p.perform()
		}
	case current != s:
		// a stream that was replaced
	case f.kind == down:
		e.n.streams[from.n.index] = nil
		e.n.downs(from.member)
	case f.kind == carries:
		w.trace("%s <- %s: %T%+v", e.n.member, from.member, f.message, f.message)
		e.n.places[f.slot].receive(from.member, f.message)
	case f.kind == ping:
		w.push(s, e.n, frame{kind: pong, sent: f.sent})
	case f.kind == pong:
		for _, p := range e.n.places {
			p.heard(from.member, 0)
			p.rep.Heard(from.member, w.at(f.sent))
		}
		e.n.observe()
	}
	return true
}

func (n *node) downs(member string) {
	for _, p := range n.places {
		p.moved(member)
		p.rep.Down(member)
		p.perform()
	}
}

// sweep forgets streams that are over.
func (w *world) sweep() {
	kept := w.streams[:0]
	for _, s := range w.streams {
		if !s.broken || len(s.ends[0].queue)+len(s.ends[1].queue) > 0 {
			kept = append(kept, s)
		}
	}
	clear(w.streams[len(kept):])
	w.streams = kept
}

func (w *world) blocked(a, b *node) bool {
	return w.blocks[a.index][b.index] || w.blocks[b.index][a.index]
}
