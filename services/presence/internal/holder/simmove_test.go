package holder

import (
	"errors"
	"slices"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// simMove is a move under way at the edge that needs the session.
type simMove struct {
	e       *edgeNode
	life    int // of the edge
	id      string
	move    home.Move
	waiting []*request
	own     bool // it is the edge's own, for the session it has
	sole    bool // it is in edgeNode.moving
	tries   int  // of the present step
	claimed Claimed
	copied  *simSession
}

// request serves a request, or finds out who does.
func (e *edgeNode) request(r *request) {
	s := e.sessions[r.id]
	switch r.hops++; {
	case r.hops > 6:
		r.reply(reply{kind: replyBusy})
	case s != nil && s.seat.Serves():
		if r.connect {
			s.seat.Through(r.via, e.w.clock())
		}
		s.serve(r)
	case e.moving[r.id] != nil:
		e.moving[r.id].waiting = append(e.moving[r.id].waiting, r)
	case r.socket:
		(&simMove{e: e, id: r.id, move: home.Adopt(e.member, hint(r.id)), waiting: []*request{r}}).step()
	default:
		at := hint(r.id)
		if s != nil {
			at, _ = s.seat.Home()
		}
		(&simMove{e: e, id: r.id, move: home.Find(e.member, at, e.usable), waiting: []*request{r}}).step()
	}
}

// reclaim claims a session that this edge has, and that presence took for lost.
func (e *edgeNode) reclaim(id string) {
	if e.moving[id] == nil {
		m := &simMove{e: e, id: id, move: home.Adopt(e.member, hint(id)), own: true, sole: true}
		e.moving[id] = m
		m.step()
	}
}

// step does what the move wants done.
func (m *simMove) step() {
	e, st, self := m.e, m.move.Step(), m.e.member // it may have died when what it sent arrives
	if m.life == 0 {
		m.life = e.life
	}
	if !e.alive || e.life != m.life {
		return
	}
	e.w.trace("%s moves %s: %+v", e.member, m.id, st)
	m.tries++
	switch st.Do {
	case home.Relay:
		if m.own || m.sole {
			m.done(reply{kind: replyBusy}, true)
			return
		}
		m.relay(st.Edge)
	case home.Locate:
		m.ask(func(h *holderNode) func() {
			got, err := h.real.Locate(m.id)
			h.answer(m.id, err)
			return m.located(got, err)
		})
	case home.ClaimIt:
		if other := e.moving[m.id]; other != nil && other != m {
			other.waiting = append(other.waiting, m.waiting...)
			return
		}
		e.moving[m.id], m.sole = m, true
		m.ask(func(h *holderNode) func() {
			got, err := h.real.Claim(m.id, self, st.Generation, e.w.clock())
			h.answer(m.id, err)
			if err == nil {
				h.w.claimed(m.id, got.Generation, self)
			}
			h.drain()
			return m.located2(got, err)
		})
	case home.Take:
		m.take(st)
	case home.Restore, home.RestoreRecord:
		m.restore(st)
	case home.Refuse:
		if at := e.w.edgeOf(hint(m.id)); at != nil && at.sessions[m.id] != nil && !e.usable(at.member) {
			e.w.sessions[m.id].excused = true // so new that its edge does not know whom to ask
		}
		m.done(reply{kind: replyUnknown}, false)
	case home.Busy:
		m.done(reply{kind: replyBusy}, true)
	}
}

// claimed notes who was made the home in a generation (S1).
func (w *world) claimed(id string, g home.Generation, by string) {
	homes := w.sessions[id].homes
	w.require(homes[g] == "", "S1: %s is claimed in %v by %s and %s", id, g, homes[g], by)
	homes[g] = by
	if t := w.sessions[id]; t.over { // which this holder had not heard; others may say so again
		t.over, t.excused = false, true
	}
	w.count.claims++
}

// next goes on with what was heard.
func (m *simMove) next(heard func()) func() {
	return func() {
		heard()
		m.tries = 0
		m.step()
	}
}

// ask asks the first holder, for up to 5 seconds.
func (m *simMove) ask(do func(h *holderNode) func()) {
	again := func() {
		if m.tries >= 20 {
			m.next(m.move.Failed)()
			return
		}
		life := m.e.life
		m.e.w.after(250*time.Millisecond, func() {
			if m.e.alive && m.e.life == life {
				m.step()
			}
		})
	}
	h := m.e.w.holderOf(m.e.view.rows[shard.OfSession(m.id)].First)
	if h == nil {
		again()
		return
	}
	m.e.w.call(&m.e.node, &h.node, func() func() {
		if then := do(h); then != nil {
			return then
		}
		return again
	}, again)
}

func (m *simMove) located(got Located, err error) func() {
	switch {
	case errors.Is(err, ErrUnknown):
		return m.next(func() { m.move.Unknown(m.e.usable) })
	case errors.Is(err, ErrOver):
		return m.next(m.move.Over)
	case err != nil:
		return nil
	}
	return m.next(func() { m.move.Located(got.Home, got.Generation, got.Lost, m.e.usable) })
}

func (m *simMove) located2(got Claimed, err error) func() {
	var stale *StaleError
	switch {
	case errors.Is(err, ErrUnknown):
		return m.next(func() { m.move.Unknown(m.e.usable) })
	case errors.Is(err, ErrOver):
		return m.next(m.move.Over)
	case errors.As(err, &stale):
		return m.next(m.move.Stale)
	case err != nil:
		return nil
	}
	return m.next(func() {
		m.claimed = got
		m.move.Claimed(got.Generation, got.Previous)
	})
}

// take asks the previous home, for a second.
func (m *simMove) take(st home.Step) {
	w, from, self := m.e.w, m.e.w.edgeOf(st.Edge), m.e.member
	failed := func() {
		if m.tries >= 4 {
			m.next(m.move.Unreachable)()
			return
		}
		m.step()
	}
	if from == nil {
		w.after(w.latency(), m.next(m.move.Unreachable))
		return
	}
	w.call(&m.e.node, &from.node, func() func() {
		s, exact, err := from.hand(m.id, self, st.Generation)
		return m.next(func() {
			switch {
			case err != nil:
				m.move.Stale()
			case s == nil:
				m.move.Untaken()
			default:
				m.copied = s
				m.move.Took(exact)
			}
		})
	}, failed)
}

// hand hands a session over.
func (e *edgeNode) hand(id, to string, g home.Generation) (*simSession, bool, error) {
	w, s := e.w, e.sessions[id]
	w.require(w.sessions[id].homes[g] == to, "17: %s takes %s in %v, which is not claimed", to, id, g)
	w.count.takes++
	if s == nil {
		return nil, false, nil
	}
	before, repeated := s.seat, e.taken[id] == g && !s.seat.Serves()
	exact, err := s.seat.Take(to, g, e.keep())
	if err != nil {
		w.require(!repeated, "17: %s gave %s away in %v and does not repeat it", e.member, id, g)
		return nil, false, err
	}
	if before.Serves() {
		s.give()
	}
	if repeated {
		w.count.again++
	}
	e.taken[id] = latest(e.taken[id], Superseded{Home: to, Generation: g})
	c := *s
	c.held, c.sent, c.channels = nil, slices.Clone(s.sent), slices.Clone(s.channels)
	return &c, exact, nil
}

// restore makes a session of what was taken, or of the record.
func (m *simMove) restore(st home.Step) {
	e, from := m.e, m.claimed.State.Generation
	if e.taken[m.id].After(st.Generation) {
		m.next(m.move.Stale)()
		return
	}
	e.w.require(m.claimed.Generation == st.Generation, "17: %s restores %s in %v, which it did not claim", e.member, m.id, st.Generation)
	s := m.copied
	if st.Do == home.RestoreRecord {
		e.w.count.records++
		c, explicit := decode(m.claimed.State.Resume)
		s = &simSession{id: m.id, channels: m.claimed.State.Channels, batch: c.batch, confirmed: c.confirmed}
		if s.confirmed = c.confirmed; !explicit {
			s.confirmed = m.claimed.Vector[0]
		}
	}
	s.seat = home.NewSeat(st.Generation, e.w.clock())
	s.batch = home.Batch(s.batch, from, st.Generation, st.Exact)
	e.w.sessions[m.id].moves++
	e.w.count.moves++
	e.install(s)
	m.done(reply{}, true)
}

// done ends the move; those that waited are served, or told.
func (m *simMove) done(r reply, again bool) {
	e := m.e
	if m.sole {
		delete(e.moving, m.id)
	}
	if m.own && r.kind != replyOK {
		if s := e.sessions[m.id]; s != nil && r.kind == replyUnknown {
			e.end(s, "unknown")
		} else if s != nil {
			life := e.life
			e.w.after(time.Second, func() {
				if s := e.sessions[m.id]; e.alive && e.life == life && s != nil && s.seat.Serves() {
					e.mark(m.id) // presence says again what stands
				}
			})
		}
	}
	for _, w := range m.waiting {
		if again && (r.kind == replyOK || m.sole) {
			e.request(w)
		} else {
			w.reply(r)
		}
	}
}

// relay passes a request on to the session's home.
func (m *simMove) relay(to string) {
	e, at, r := m.e, m.e.w.edgeOf(to), m.waiting[0]
	if at == nil {
		e.w.after(e.w.latency(), m.next(m.move.Unreachable))
		return
	}
	open, life, atLife := true, e.life, at.life
	back := func(then func()) {
		e.w.after(e.w.latency(), func() {
			if open && e.alive && e.life == life && e.w.link(e.name, at.name) {
				open = false
				then()
			}
		})
	}
	inner := *r
	inner.via = e.member
	inner.reply = func(got reply) { back(func() { r.reply(got) }) }
	e.w.after(e.w.latency(), func() {
		if !at.alive || at.life != atLife || !e.w.link(e.name, at.name) {
			return
		}
		s := at.sessions[r.id]
		switch {
		case s != nil && s.seat.Serves():
			settled := r.connect && s.seat.Through(e.member, e.w.clock())
			s.serve(&inner)
			if settled {
				back(func() { m.adopt() })
			}
		case at.moving[r.id] != nil:
			at.moving[r.id].waiting = append(at.moving[r.id].waiting, &inner)
		default:
			elsewhere := ""
			if s != nil {
				elsewhere, _ = s.seat.Home()
			}
			back(m.next(func() { m.move.NotHome(elsewhere, e.usable) }))
		}
	})
	e.w.every(time.Second, func() bool { // the home may be gone
		if !open || !e.alive || e.life != life {
			return false
		}
		if at.alive && at.life == atLife && e.w.link(e.name, at.name) {
			return true
		}
		open = false
		m.next(m.move.Unreachable)()
		return false
	})
}

// adopt takes over a session whose client has settled here; what was asked goes
// with it.
func (m *simMove) adopt() {
	m.move = home.Adopt(m.e.member, hint(m.id))
	m.tries = 0
	m.step()
}
