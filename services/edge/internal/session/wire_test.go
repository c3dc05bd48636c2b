package session_test

import (
	"slices"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// openSocket is the client that goes on over a new socket.
func (m *model) openSocket() {
	m.opened++
	m.socket = m.opened
}

// reopen goes on over a new socket, or over HTTP. The session hears later that
// the old one is gone.
func (m *model) reopen(t *rapid.T) {
	if m.losses >= 6 {
		t.Skip()
	}
	m.drop(t)
	if rapid.Bool().Draw(t, "socket") {
		m.openSocket()
	}
}

// drop loses the socket and what is on its way.
func (m *model) drop(t *rapid.T) {
	if m.socket == 0 {
		return
	}
	for range rapid.IntRange(0, len(m.wire)).Draw(t, "arrived") {
		m.arriveFrame(t)
	}
	for range rapid.IntRange(0, len(m.pongs)).Draw(t, "pongs") {
		m.arrivePong(t)
	}
	for _, e := range m.unsure {
		m.may[e.String()] = true
	}
	m.unsure, m.pongs = nil, nil
	if m.asked[m.polling].socket == m.socket || m.wireHas(m.polling) {
		m.polling, m.failed = 0, true
		m.losses++
	}
	for ex := range m.open {
		if m.asked[ex].socket == m.socket {
			delete(m.open, ex)
			m.gone[ex] = true
		}
	}
	m.whole = m.whole && !m.repl // so it may ask for history because of it
	m.reports = append(m.reports, report{socket: m.socket})
	m.wire, m.full, m.socket = nil, false, 0
}

func (m *model) wireHas(ex session.Exchange) bool {
	for _, f := range m.wire {
		if ex != 0 && f.answer.Exchange == ex {
			return true
		}
	}
	return false
}

// arriveFrame is the next frame of the socket as the client gets it.
func (m *model) arriveFrame(t *rapid.T) {
	if len(m.wire) == 0 {
		t.Skip()
	}
	f := m.wire[0]
	m.wire = m.wire[1:]
	switch {
	case f.event != nil:
		m.take(t, *f.event)
	case f.ping != 0:
		m.pongs = append(m.pongs, report{socket: m.socket, ping: f.ping})
	default:
		m.deliver(t, f.flight, true, true)
	}
}

// pong is the next pong as the session gets it.
func (m *model) pong(t *rapid.T) {
	if len(m.pongs) == 0 {
		t.Skip()
	}
	m.arrivePong(t)
}

func (m *model) arrivePong(t *rapid.T) {
	p := m.pongs[0]
	m.pongs = m.pongs[1:]
	m.unsure = slices.DeleteFunc(m.unsure, func(e pushed) bool { return e.ping == p.ping })
	m.s.Pong(m.now, p.socket, p.ping, &m.out)
	m.flush(t)
}

func (m *model) block(t *rapid.T) {
	if m.socket == 0 || m.s.Socket() != m.socket {
		t.Skip()
	}
	m.full = true
	m.s.Blocked(m.now, m.socket)
}

func (m *model) unblock(t *rapid.T) {
	if !m.full {
		t.Skip()
	}
	m.writable(t)
}

func (m *model) writable(t *rapid.T) {
	if m.full {
		m.full = false
		m.s.Writable(m.now, m.socket, &m.out)
		m.flush(t)
	}
}

// mayShed reports whether an entry may be gone without a word: one that was not
// the newest to wait.
func (m *model) mayShed(e entry) bool {
	if e.channel != shedding || m.slow == session.Recover {
		return false
	}
	for _, newest := range slices.Backward(m.logs[shard.Of(shedding)]) {
		if newest.channel == shedding {
			return newest != e || m.slow == session.DropOldest
		}
	}
	return true
}
