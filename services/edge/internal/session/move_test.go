package session_test

import (
	"maps"
	"slices"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// flushOf carries effects of a session out. Of one that is not here any more
// there must be none.
func (m *model) flushOf(t *rapid.T, s *session.Session) {
	if s == m.s {
		m.flush(t)
		return
	}
	if o := &m.out; s.Ended() != "" && len(o.Answers)+len(o.Interests)+len(o.Publishes)+len(o.Replays) > 0 {
		t.Fatalf("a session that has moved does something: %+v", m.out)
	}
	m.out = session.Effects{}
}

// joinFails may refuse to join.
func (m *model) joinFails(t *rapid.T, i session.Interest) bool {
	if rapid.IntRange(0, 3).Draw(t, "no join") > 0 {
		return false
	}
	if bayeux.IsPattern(i.Channel) && rapid.Bool().Draw(t, "places") { // or says no more than that it has
		m.interests[i.Channel] = true
		m.s.Subscribed(m.now, i.Token, nil, nil, &m.out)
	} else {
		m.s.Subscribed(m.now, i.Token, nil, bayeux.Unavailable(), &m.out)
	}
	m.flush(t)
	return true
}

// handed is up to where all was given to the session.
func (m *model) handed() []uint64 {
	all := make([]uint64, shard.Slots)
	for slot, n := range m.pushed {
		if n > 0 {
			all[slot] = m.logs[slot][n-1].offset
		}
	}
	return all
}

// note has holders told of the session.
func (m *model) note() {
	m.record = m.s.Resume(m.vector, m.settled())
	m.behind = m.fallsBehind(m.vector)
}

// settled is what a record that is to be exact counts from.
func (m *model) settled() []uint64 {
	if !m.exact {
		return nil
	}
	if m.before == nil {
		return make([]uint64, shard.Slots)
	}
	return m.before
}

// fallsBehind reports whether a record has to say more than the channels.
func (m *model) fallsBehind(vector []uint64) bool {
	return m.s.Behind(vector) || m.exact && m.s.Beyond(m.settled())
}

// tellHolders tells them up to where all was given and confirmed some time ago;
// what the session says of that goes first.
func (m *model) tellHolders(*rapid.T) {
	vector := m.older
	m.older = m.handed()
	if behind := m.fallsBehind(vector); behind || m.behind {
		m.record, m.behind = m.s.Resume(vector, m.settled()), behind
	}
	m.before, m.vector = m.vector, vector
}

const batches = 5000

// growOld has a session count batches as if it had lasted for days, of which
// holders know nothing.
func (m *model) growOld(t *rapid.T) {
	m.handOver(t, func(snap *session.Snapshot) { snap.Batch += batches })
	m.record.Batch -= batches
	m.old, m.aged = true, true
}

// move has the session go on at another edge, to which this one hands it over.
func (m *model) move(t *rapid.T) { m.handOver(t, func(*session.Snapshot) {}) }

func (m *model) handOver(t *rapid.T, edit func(*session.Snapshot)) {
	m.drop(t)
	handed := m.handed()
	snap := m.s.Snapshot(func(slot shard.Slot) uint64 { return handed[slot] })
	m.s.Move(&m.out)
	m.flush(t)
	if len(m.interests)+len(m.joins) > 0 {
		t.Fatalf("left behind: %v, %v", m.interests, m.joins)
	}
	for ex := range m.open {
		t.Fatalf("exchange %d was not answered", ex)
	}
	m.flight = slices.DeleteFunc(m.flight, func(f flight) bool {
		lost := !f.connect && rapid.Bool().Draw(t, "lost") // it is not known whether it arrived
		if lost {
			m.deliver(t, f, false, true)
		}
		return lost
	})
	m.mayRepeat(snap)
	edit(snap)
	m.goOn(t, snap, nil)
}

// mayRepeat notes what a session that reads history may get again: what it was
// given through patterns.
func (m *model) mayRepeat(snap *session.Snapshot) {
	for _, sub := range snap.Subscriptions {
		for name := range m.subs {
			if m.repl && name != sub.Channel && bayeux.Match(name, sub.Channel) {
				m.mayAgain(sub.Channel, 0)
			}
		}
	}
}

func (m *model) mayAgain(channel string, after uint64) {
	for _, e := range m.logs[shard.Of(channel)] {
		if e.channel == channel && e.offset > after {
			m.may[e.String()] = true
		}
	}
}

// crash loses the edge. What was sent arrives or not.
func (m *model) crash(t *rapid.T) {
	m.drop(t)
	for range rapid.IntRange(0, 2).Draw(t, "seconds") {
		m.tellHolders(t)
	}
	if m.aged && (!m.old || m.acked < batches) { // else they may know nothing of these, but its client does
		m.record.Batch = m.s.Resume(nil, nil).Batch
	}
	m.old = false
	for len(m.flight) > 0 {
		f := m.flight[0]
		m.flight = m.flight[1:]
		m.deliver(t, f, rapid.Bool().Draw(t, "arrives"), true)
	}
	for ex := range m.open {
		m.gone[ex] = true
		if ex == m.polling {
			m.polling, m.failed = 0, true
		}
	}
	clear(m.open)
	clear(m.asked)
	clear(m.interests)
	clear(m.joins)
	clear(m.due) // nothing was lost
	clear(m.batches)
	m.record.Transport = m.s.Transport()
	if m.exact && m.ack {
		m.mayRepeat(m.record)
		m.goOn(t, m.record, m.vector)
		return
	}
	at := slices.Clone(m.vector)
	if at == nil {
		at = make([]uint64, shard.Slots)
	}
	for _, p := range m.record.Seen {
		at[p.Slot] = p.Offset
	}
	for _, channel := range channels() {
		m.mayAgain(channel, at[shard.Of(channel)])
	}
	for _, sub := range m.record.Subscriptions {
		if sub.Reads {
			m.mayAgain(sub.Channel, sub.Cursor)
		}
	}
	m.mayRepeat(m.record)
	m.goOn(t, m.record, m.vector)
}

// goOn restores the session at an edge that is ahead of the one before, or
// behind it.
func (m *model) goOn(t *rapid.T, snap *session.Snapshot, vector []uint64) {
	m.moved = true
	clear(m.orders) // the shell says that they failed
	m.whole = m.whole && !m.repl
	m.reports, m.full = nil, false
	m.flight = slices.DeleteFunc(m.flight, func(f flight) bool { return f.answer.Socket != 0 })
	for _, slot := range slices.Sorted(maps.Keys(m.logs)) {
		end := len(m.logs[slot])
		m.pushed[slot] = rapid.IntRange(max(0, m.pushed[slot]-3), end).Draw(t, "handed over")
	}
	if m.home != 0 {
		m.closed[m.home] = true
	}
	if m.socket == 0 && rapid.IntRange(0, 3).Draw(t, "socket") == 0 {
		m.openSocket()
	}
	m.s = session.Restore(m.cfg, "S", "public", snap, vector, m.now, &m.out)
	m.before, m.vector, m.older = nil, m.handed(), m.handed()
	m.note()
	m.flush(t)
}
