package session_test

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/services/edge/internal/session"
)

// TestPushed plays the part of the game of TestProperties that decides whether a
// client without the ack extension gets everything over sockets that break, or is
// told.
func TestPushed(t *testing.T) {
	for range 10 { // of 100 games each
		rapid.Check(t, playPushed)
	}
}

func playPushed(t *rapid.T) {
	m := newModelWith(t, func(m *model) {
		m.ack, m.calm, m.slow = false, false, session.Recover
		m.literal = m.repl
		m.openSocket()
	})
	m.warmUp(t)
	t.Repeat(map[string]func(*rapid.T){
		"":          m.check,
		"publish":   m.publishSome,
		"arrivals":  m.arriveSome,
		"frame":     m.arriveFrame,
		"pong":      m.pong,
		"pass":      m.passOnSocket,
		"connect":   m.connectOnSocket,
		"come back": m.comeBack,
		"report":    m.report,
		"arrive":    m.arrive,
		"block":     m.block,
		"unblock":   m.unblock,
		"resolve":   m.resolve,
		"tell":      m.tellHolders,
		"move":      m.move,
		"crash":     m.crash,
	})
	m.finish(t)
}

// publishSome has the session pushed a few entries.
func (m *model) publishSome(t *rapid.T) {
	for range rapid.IntRange(1, 6).Draw(t, "entries") {
		m.appendEntry(t)
	}
	for _, slot := range slices.Sorted(maps.Keys(m.logs)) {
		for m.pushed[slot] < len(m.logs[slot]) {
			m.pushOne(t, slot)
		}
	}
}

// arriveSome lets some of what is on its way arrive, and the pongs to it.
func (m *model) arriveSome(t *rapid.T) {
	for range rapid.IntRange(0, len(m.wire)).Draw(t, "frames") {
		m.arriveFrame(t)
	}
	for len(m.pongs) > 0 {
		m.arrivePong(t)
	}
}

// comeBack is a client whose socket breaks, and that notices at once.
func (m *model) comeBack(t *rapid.T) {
	m.reopen(t)
	if m.polling == 0 {
		m.poll(t)
	}
}

// passOnSocket lets time pass until the session does something, but for its end.
func (m *model) passOnSocket(t *rapid.T) {
	if at := m.s.Deadline(); at.IsZero() || !m.s.Holding() && at.Sub(m.now) >= m.cfg.MaxInterval/2 {
		t.Skip()
	}
	m.now = m.s.Deadline()
	m.s.Tick(m.now, &m.out)
	m.flush(t)
}

// connectOnSocket is the next connect, or its first one; it does not give up.
func (m *model) connectOnSocket(t *rapid.T) {
	if m.polling != 0 {
		t.Skip()
	}
	m.poll(t)
}
