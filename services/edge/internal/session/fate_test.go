package session_test

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// arrive is the fate of an answer: it arrives or not, and is reported so or
// not. Only answers to connects are lost, or piggybacked events would be lost
// with no one to tell.
func (m *model) arrive(t *rapid.T) {
	if len(m.flight) == 0 {
		t.Skip()
	}
	i := rapid.IntRange(0, len(m.flight)-1).Draw(t, "flight")
	f := m.flight[i]
	m.flight = slices.Delete(m.flight, i, i+1)
	arrives, honest := true, true
	if f.connect && m.losses < 6 {
		arrives = rapid.IntRange(0, 3).Draw(t, "loss") > 0
		honest = rapid.IntRange(0, 3).Draw(t, "lie") > 0
	}
	m.deliver(t, f, arrives, honest)
}

func (m *model) deliver(t *rapid.T, f flight, arrives, honest bool) {
	ex := f.answer.Exchange
	if f.answer.Socket == 0 {
		m.reports = append(m.reports, report{ex: ex, lost: arrives != honest})
	}
	if f.connect && ex == m.polling {
		m.polling = 0
		m.failed = !arrives || f.answer.Status != 200
	}
	if !arrives || f.answer.Status != 200 {
		m.losses++
		return
	}
	m.losses = 0
	events, reply := parse(t, f.answer.Body)
	for _, e := range events {
		if !f.connect { // nothing confirms a piggybacked one but a good connect
			m.may[e.String()] = true
		}
		m.take(t, e)
		if !honest {
			m.may[e.String()] = true
		}
	}
	if reply == nil || reply.Channel != bayeux.Connect {
		return
	}
	m.acked = max(m.acked, int64(reply.batch()))
	for _, name := range reply.Ext.Comet.Resync {
		delete(m.due, name)
		for _, channel := range channels() {
			if bayeux.Match(name, channel) {
				for _, e := range m.logs[shard.Of(channel)] {
					m.told[e.String()] = true
				}
			}
		}
	}
}

// take is an event as the client gets it.
func (m *model) take(t *rapid.T, e entry) {
	again := m.repl && m.slow != session.Recover && e.channel == shedding // it may ask for what was shed
	if m.received[e.String()]++; m.received[e.String()] > 1 && !m.may[e.String()] && !again {
		t.Fatalf("%v came %d times", e, m.received[e.String()])
	}
	ordered := !m.repl && !m.cfg.Piggyback // one may ask for the past, the other lets answers overtake each other
	if e.offset < m.last[e.channel] && ordered && !m.may[e.String()] {
		t.Fatalf("%v came after %d", e, m.last[e.channel])
	}
	m.last[e.channel] = max(m.last[e.channel], e.offset)
}

func (m *model) report(t *rapid.T) {
	if len(m.reports) == 0 {
		t.Skip()
	}
	m.reportOne(t, rapid.IntRange(0, len(m.reports)-1).Draw(t, "report"))
}

func (m *model) reportOne(t *rapid.T, i int) {
	r := m.reports[i]
	m.reports = slices.Delete(m.reports, i, i+1)
	switch {
	case r.socket != 0:
		m.closed[r.socket] = true
		m.s.Unbind(m.now, r.socket, &m.out)
	case r.lost:
		m.s.Lost(m.now, r.ex, &m.out)
	default:
		m.s.Written(m.now, r.ex, &m.out)
	}
	m.flush(t)
}

// vanish loses an exchange before it is answered.
func (m *model) vanish(t *rapid.T) {
	if len(m.open) == 0 {
		t.Skip()
	}
	ex := rapid.SampledFrom(slices.SortedFunc(maps.Keys(m.open), cmp.Compare)).Draw(t, "exchange")
	if m.asked[ex].socket != 0 {
		t.Skip() // it goes with its socket
	}
	delete(m.open, ex)
	m.gone[ex] = true
	if ex == m.polling {
		m.polling, m.failed = 0, true
	}
	m.s.Lost(m.now, ex, &m.out)
	m.flush(t)
}

func (m *model) resync(t *rapid.T) {
	if len(m.subs) == 0 || m.calm {
		t.Skip()
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.subs))).Draw(t, "name")
	m.due[name] = true
	m.s.Resync(m.now, name)
	m.flush(t)
}

// pass lets time pass, too little for the session to expire.
func (m *model) pass(t *rapid.T) {
	if still := m.full && m.home == m.socket && !m.s.Deadline().IsZero(); !m.s.Holding() && !still {
		t.Skip()
	}
	m.now = m.s.Deadline()
	m.s.Tick(m.now, &m.out)
	m.flush(t)
}

func (m *model) check(t *rapid.T) {
	if m.s.Ended() != "" {
		t.Fatalf("ended: %s", m.s.Ended())
	}
}

// drainNetwork lets all answers arrive.
func (m *model) drainNetwork(t *rapid.T) {
	for len(m.wire)+len(m.pongs) > 0 {
		if len(m.wire) > 0 {
			m.arriveFrame(t)
		} else {
			m.arrivePong(t)
		}
	}
	for len(m.flight) > 0 {
		f := m.flight[0]
		m.flight = m.flight[1:]
		m.deliver(t, f, true, true)
	}
	for len(m.reports) > 0 {
		m.reportOne(t, 0)
	}
}

// finish lets everything come to rest and compares what the client has with
// what it is owed.
func (m *model) finish(t *rapid.T) {
	for range 10_000 {
		m.drainNetwork(t)
		m.writable(t)
		switch {
		case len(m.tasks) > 0:
			m.resolveOne(t, 0)
			continue
		case m.polling == 0:
			m.poll(t)
			continue
		}
		more := false
		for slot, log := range m.logs {
			if m.pushed[slot] < len(log) {
				m.pushOne(t, slot)
				more = true
				break
			}
		}
		if more || len(m.wire)+len(m.pongs) > 0 || !m.s.Holding() || m.s.Queued() > 0 {
			continue
		}
		if m.s.Deadline().Sub(m.now) > time.Second {
			break
		}
		m.pass(t) // losses are being gathered
	}
	if !m.s.Holding() || m.s.Queued() > 0 {
		t.Fatalf("no rest: polling %d, open %v, queued %d, tasks %d", m.polling, m.open, m.s.Queued(), len(m.tasks))
	}
	for name, s := range m.subs {
		for slot, start := range s.start {
			for _, e := range m.logs[slot] {
				if id := e.String(); e.offset > start && bayeux.Match(name, e.channel) && m.received[id] == 0 && !m.told[id] && !m.mayShed(e) {
					t.Errorf("%v of %s, from %d, never came, and no resync told so", e, name, start)
				}
			}
		}
	}
	for name := range m.due {
		t.Errorf("resync of %s was never told", name)
	}
	if len(m.orders) > 0 {
		t.Errorf("orders without an answer: %v", m.orders)
	}
	m.s.End(m.now, session.Evicted, &m.out)
	m.flush(t)
	if len(m.interests) > 0 || len(m.open) > 0 {
		t.Errorf("left behind: interests %v, exchanges %v", m.interests, m.open)
	}
}
