package session_test

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/services/edge/internal/session"
)

// TestExact plays the part of the game of TestProperties that decides whether a
// client with the ack extension gets everything exactly once although its edges
// are lost: each recorded its answers before they went out.
func TestExact(t *testing.T) {
	for range 10 { // of 100 games each
		rapid.Check(t, playExact)
	}
}

func playExact(t *rapid.T) {
	m := newModelWith(t, func(m *model) {
		m.ack, m.exact, m.calm, m.slow = true, true, true, session.Recover
		m.literal = m.repl // beside patterns history may come again
	})
	m.warmUp(t)
	t.Repeat(map[string]func(*rapid.T){
		"":          m.check,
		"step":      m.goAStep,
		"step on":   m.goAStep,
		"append":    m.appendEntry,
		"push":      m.push,
		"connect":   m.connect,
		"subscribe": m.subscribe,
		"resolve":   m.resolve,
		"arrive":    m.arrive,
		"frame":     m.arriveFrame,
		"tell":      m.tellHolders,
		"move":      m.move,
		"crash":     m.crash,
	})
	m.finish(t)
}

// goAStep is what happens mostly: an entry is pushed, sent, and arrives, and the
// client comes again.
func (m *model) goAStep(t *rapid.T) {
	m.appendEntry(t)
	for _, slot := range slices.Sorted(maps.Keys(m.logs)) {
		for m.pushed[slot] < len(m.logs[slot]) {
			m.pushOne(t, slot)
		}
	}
	for len(m.tasks) > 0 && rapid.Bool().Draw(t, "a task") {
		m.resolveOne(t, 0)
	}
	m.drainNetwork(t)
	if m.polling == 0 {
		m.poll(t)
	}
}
