package holder

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// edgeNode is an edge: a home of sessions.
type edgeNode struct {
	node
	sessions map[string]*simSession
	moving   map[string]*simMove
	streams  map[string]*simStream // by the holder's member
	taken    map[string]home.Generation
	onCrash  []func(silent bool)
}

// simSession is a session as its home has it.
type simSession struct {
	id       string
	edge     *edgeNode
	seat     home.Seat
	channels []string
	changed  time.Duration // when its channels did

	batch     uint32
	confirmed uint64
	sent      []sent
	held      *request
	heldAt    time.Duration
	loss      time.Duration // since when its client is away
	patience  time.Duration // for how long it may be
}

// upto is what was sent.
func (s *simSession) upto() uint64 {
	if len(s.sent) > 0 {
		return s.sent[len(s.sent)-1].upto
	}
	return s.confirmed
}

func (e *edgeNode) start() {
	if e.alive {
		return
	}
	e.life++
	e.alive, e.member = true, fmt.Sprintf("%s@%d", e.name, e.life)
	e.sessions, e.moving, e.streams = map[string]*simSession{}, map[string]*simMove{}, map[string]*simStream{}
	e.taken, e.onCrash = map[string]home.Generation{}, nil
	life := e.life
	runs := func() bool { return e.alive && e.life == life }
	e.w.every(time.Second, func() bool {
		if runs() {
			e.renew()
			e.vectors()
		}
		return runs()
	})
	e.w.every(500*time.Millisecond, func() bool {
		if runs() {
			e.tick()
		}
		return runs()
	})
	e.renew()
	e.w.changed()
}

// crash ends the process. Its peers may not notice.
func (e *edgeNode) crash(silent bool) {
	if !e.alive {
		return
	}
	e.w.trace("%s crashes, silent: %v", e.member, silent)
	e.alive, e.cut = false, false
	notify := e.onCrash
	e.onCrash = nil
	for _, f := range notify {
		e.w.after(e.w.latency(), func() { f(silent) })
	}
	for _, st := range e.all() {
		st.breaks()
	}
	e.w.destroyed()
}

func (e *edgeNode) see() {
	for _, st := range e.all() {
		if !e.view.holders[st.member] {
			st.breaks()
			delete(e.streams, st.member)
		}
	}
	for _, member := range slices.Sorted(maps.Keys(e.view.holders)) {
		if e.streams[member] == nil {
			e.streams[member] = &simStream{e: e, member: member, pace: e.w.upTo(20 * time.Millisecond)}
			e.streams[member].open()
		}
	}
	for _, st := range e.all() {
		st.cover()
	}
}

// all returns the streams, always in the same order.
func (e *edgeNode) all() []*simStream {
	var all []*simStream
	for _, member := range slices.Sorted(maps.Keys(e.streams)) {
		all = append(all, e.streams[member])
	}
	return all
}

// broken hears that the connection to a holder is gone.
func (e *edgeNode) broken(member string) {
	if st := e.streams[member]; e.alive && st != nil && st.feed != nil {
		st.breaks()
		st.open()
	}
}

// mark notes that presence must be told of a session.
func (e *edgeNode) mark(id string) {
	for _, st := range e.all() {
		st.mark(id, ending{})
	}
}

// end ends a session here, and says so.
func (e *edgeNode) end(s *simSession, reason string) {
	e.w.trace("%s: %s in %v ends: %s", e.member, s.id, s.seat.Generation(), reason)
	if s.held != nil {
		s.answer(reply{kind: replyUnknown})
	}
	_, g := s.seat.Home()
	if reason == Moved {
		g = s.seat.Generation()
	}
	delete(e.sessions, s.id)
	for _, st := range e.all() {
		st.mark(s.id, ending{reason, g})
	}
}

// tick ends what is over.
func (e *edgeNode) tick() {
	for _, id := range slices.Sorted(maps.Keys(e.sessions)) {
		s := e.sessions[id]
		switch {
		case !s.seat.Serves():
			if s.seat.Dead(e.w.clock()) {
				e.end(s, Moved)
			}
		case s.held != nil && e.w.now-s.heldAt >= simTimeout:
			s.answer(s.flush())
		case s.held == nil && e.w.now-s.loss > s.patience && e.moving[id] == nil:
			e.w.over(s)
			e.end(s, "expired")
		}
	}
	for _, st := range e.all() {
		if st.feed != nil && !e.w.link(e.name, st.name()) && e.w.rng.IntN(3) == 0 {
			st.breaks()
			st.open()
		}
	}
}

// over notes that a session has ended, unless there is a newer home already.
func (w *world) over(s *simSession) {
	if w.newest(s.id) == s.seat.Generation() {
		w.sessions[s.id].over = true
	}
}

// newest is the highest generation that there is.
func (w *world) newest(id string) (g home.Generation) {
	for at := range w.sessions[id].homes {
		if at.After(g) {
			g = at
		}
	}
	return g
}

// install makes this edge the home of a session.
func (e *edgeNode) install(s *simSession) {
	g := s.seat.Generation()
	homes := e.w.sessions[s.id].homes
	e.w.require(homes[g] == "" || homes[g] == e.member, "S1: %s has homes %s and %s in %v", s.id, homes[g], e.member, g)
	homes[g] = e.member
	if old := e.sessions[s.id]; old != nil && old.held != nil {
		s.held, s.heldAt = old.held, old.heldAt
	}
	s.edge, s.loss, s.patience = e, e.w.now, simMaxInterval
	e.sessions[s.id] = s
	e.mark(s.id)
}

func (e *edgeNode) handshake(id string) {
	epoch := e.view.rows[shard.OfSession(id)].Epoch
	s := &simSession{
		id: id, seat: home.NewSeat(home.First(epoch), time.Time{}), confirmed: e.w.offset,
		channels: simChannels[:1+e.w.rng.IntN(len(simChannels))],
	}
	s.channels = slices.Clone(s.channels)
	e.w.sessions[id].excused = e.cut || !e.w.announced(e.member) // nobody hears of it
	e.install(s)
}

// serve answers a request at the session's home.
func (s *simSession) serve(r *request) {
	w := s.edge.w
	s.check()
	s.loss, s.patience = w.now, simMaxInterval
	switch {
	case r.end:
		w.over(s)
		r.reply(reply{})
		s.edge.end(s, "disconnect")
	case r.toggle != "":
		if i := slices.Index(s.channels, r.toggle); i >= 0 {
			s.channels = slices.Delete(s.channels, i, i+1)
		} else {
			s.channels = append(s.channels, r.toggle)
		}
		s.changed = w.now
		s.edge.mark(s.id)
		r.reply(reply{})
	default:
		s.connect(r)
	}
}

func (s *simSession) connect(r *request) {
	w := s.edge.w
	if s.held != nil {
		s.held.reply(reply{kind: replyReplaced})
		s.held = nil
	}
	for i, b := range s.sent {
		if b.n == r.ack { // S6
			s.confirmed = b.upto
			s.sent = slices.Clone(s.sent[i+1:])
			break
		}
	}
	s.held, s.heldAt = r, w.now
	if w.offset > s.confirmed {
		s.answer(s.flush())
	}
	if r.via != "" {
		s.watchFront(r)
	}
}

// watchFront notices that the front of a held connect is gone.
func (s *simSession) watchFront(r *request) {
	front := s.edge.w.edgeOf(r.via)
	life := s.edge.life
	s.edge.w.every(time.Second, func() bool {
		if s.held != r || !s.edge.alive || s.edge.life != life {
			return false
		}
		if front != nil && front.alive && front.member == r.via && s.edge.w.link(front.name, s.edge.name) {
			return true
		}
		s.held, s.loss = nil, s.edge.w.now
		s.patience = home.Adoptable(simTimeout, 0, simMaxInterval)
		return false
	})
}

// flush makes the answer to a connect: all that is not confirmed.
func (s *simSession) flush() reply {
	w := s.edge.w
	if from := s.upto(); w.offset > from {
		s.batch++
		b := sent{s.batch, span{from, w.offset}}
		known := w.sessions[s.id].batches
		was, ok := known[b.n]
		w.require(!ok || was == b.span, "S5: batch %d of %s is %v and %v", b.n, s.id, was, b.span)
		known[b.n] = b.span
		s.sent = append(s.sent, b)
		s.edge.mark(s.id)
	}
	return reply{batches: slices.Clone(s.sent)}
}

// answer answers the held connect.
func (s *simSession) answer(r reply) {
	if r.kind == replyOK {
		s.check()
	}
	w := s.edge.w
	w.count.answers++
	held := s.held
	s.held, s.loss, s.patience = nil, w.now, simMaxInterval
	if held.via != "" {
		s.patience = home.Adoptable(simTimeout, 0, simMaxInterval) // it is not known to have arrived
	}
	held.reply(r)
}

// check demands that the session may be answered for (S1, S3).
func (s *simSession) check() {
	w, g := s.edge.w, s.seat.Generation()
	w.require(w.sessions[s.id].homes[g] == s.edge.member, "S1: %s writes for %s in %v, which is %s's", s.edge.member, s.id, g, w.sessions[s.id].homes[g])
	w.require(!s.edge.taken[s.id].After(g), "S3: %s writes for %s in %v, and has heard of %v", s.edge.member, s.id, g, s.edge.taken[s.id])
}

// deliver gives what was published to held connects.
func (e *edgeNode) deliver() {
	for _, id := range slices.Sorted(maps.Keys(e.sessions)) {
		if s := e.sessions[id]; s.held != nil && s.seat.Serves() && e.w.offset > s.confirmed {
			s.answer(s.flush())
		}
	}
}

// give stops serving a session that went elsewhere.
func (s *simSession) give() {
	if r := s.held; r != nil {
		s.held = nil
		r.reply(reply{kind: replyBusy})
	}
	s.edge.mark(s.id)
}

func (e *edgeNode) keep() time.Time { return e.w.clock().Add(simMaxInterval) }

// superseded hears that a report was refused.
func (e *edgeNode) superseded(x Superseded) {
	if x.Home != e.member {
		e.taken[x.Session] = latest(e.taken[x.Session], x)
	}
	if m := e.moving[x.Session]; m != nil && x.Home != e.member {
		m.move.Superseded(x.Generation)
	}
	s := e.sessions[x.Session]
	if s == nil {
		return
	}
	verdict := s.seat.Superseded(e.member, x.Home, x.Generation, e.keep())
	e.w.trace("%s: %s in %v superseded by %v at %q: %d", e.member, s.id, s.seat.Generation(), x.Generation, x.Home, verdict)
	switch verdict {
	case home.Claim:
		e.reclaim(x.Session)
	case home.Keep:
		s.give()
	case home.End:
		e.end(s, "over")
	}
}

// latest is the highest generation of another home that was heard of.
func latest(g home.Generation, x Superseded) home.Generation {
	if x.Home != "" && x.Generation.After(g) {
		return x.Generation
	}
	return g
}

// usable reports whether an edge is announced, as far as this one knows.
func (e *edgeNode) usable(member string) bool { return e.view.edges[member] }

// hint is the edge that a session's id names.
func hint(id string) string {
	member, _, _ := strings.Cut(id, "-")
	return member
}
