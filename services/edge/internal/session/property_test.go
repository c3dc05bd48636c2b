package session_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// TestProperties plays a session against a broker, a hub and a client that
// behave well, on a network that loses answers and sockets and is believed or
// not, in random order, and checks what doc.go promises:
//
//   - every exchange is answered exactly once, unless it was lost before;
//   - every event of a subscription reaches the client once and in order, or a
//     resync names the subscription; copies come only after a loss that was
//     reported of an answer that had arrived, or that of a socket before the pong
//     to a ping behind them. The channel that may be shed may lose what is not its
//     newest;
//   - a batch of the ack extension names one set of events for ever;
//   - the log is bounded;
//   - interests end when the session does;
//   - what a backend subscribes the client to is like what it subscribes to itself;
//   - all this goes on when the session moves to another edge, and after its edge
//     was lost, when a record and a vector are all there is: then an event may
//     come again, if it is newer than what these say.
func TestProperties(t *testing.T) {
	for range 10 { // of 100 games each
		rapid.Check(t, play)
	}
}

func play(t *rapid.T) {
	m := newModel(t)
	if rapid.Bool().Draw(t, "past") {
		for range rapid.IntRange(1, 12).Draw(t, "entries") {
			m.appendEntry(t)
		}
		for slot, log := range m.logs {
			m.pushed[slot] = len(log)
		}
	}
	if rapid.Bool().Draw(t, "warm") {
		m.warmUp(t)
	}
	if rapid.Bool().Draw(t, "old") {
		m.growOld(t)
	}
	t.Repeat(map[string]func(*rapid.T){
		"":            m.check,
		"append":      m.appendEntry,
		"push":        m.push,
		"connect":     m.connect,
		"subscribe":   m.subscribe,
		"unsubscribe": m.unsubscribe,
		"enlist":      m.enlist,
		"withdraw":    m.withdraw,
		"publish":     m.publish,
		"resolve":     m.resolve,
		"arrive":      m.arrive,
		"report":      m.report,
		"vanish":      m.vanish,
		"resync":      m.resync,
		"forget":      m.forget,
		"lose":        m.lose,
		"pass":        m.pass,
		"reopen":      m.reopen,
		"frame":       m.arriveFrame,
		"pong":        m.pong,
		"block":       m.block,
		"unblock":     m.unblock,
		"tell":        m.tellHolders,
		"move":        m.move,
		"crash":       m.crash,
	})
	m.finish(t)
}

// warmUp subscribes and connects, so that less of the game is preparation.
func (m *model) warmUp(t *rapid.T) {
	m.subscribe(t)
	for len(m.tasks) > 0 {
		m.resolveOne(t, 0)
	}
	for range 2 {
		m.drainNetwork(t)
		m.poll(t)
	}
}

func (m *model) appendEntry(t *rapid.T) {
	m.write(rapid.SampledFrom(channels()).Draw(t, "channel"))
}

// forget drops history.
func (m *model) forget(t *rapid.T) {
	if m.calm {
		t.Skip()
	}
	channel := rapid.SampledFrom(channels()).Draw(t, "channel")
	m.keep[channel] = max(m.keep[channel], rapid.Uint64Range(0, m.end(shard.Of(channel))).Draw(t, "through"))
}

func (m *model) push(t *rapid.T) {
	slot := shard.Of(rapid.SampledFrom(channels()).Draw(t, "channel"))
	if m.pushed[slot] == len(m.logs[slot]) {
		t.Skip()
	}
	m.pushOne(t, slot)
}

// lose loses what was to be pushed of a slot; the hub tells.
func (m *model) lose(t *rapid.T) {
	if m.calm {
		t.Skip()
	}
	slot := shard.Of(rapid.SampledFrom(channels()).Draw(t, "channel"))
	m.pushed[slot] = len(m.logs[slot])
	for _, name := range slices.Sorted(maps.Keys(m.interests)) {
		if slices.Contains(slots(name), slot) {
			m.s.Resync(m.now, name)
			m.flush(t)
		}
	}
}

func (m *model) pushOne(t *rapid.T, slot shard.Slot) {
	e := m.logs[slot][m.pushed[slot]]
	m.pushed[slot]++
	made := e.event()
	for _, via := range slices.Sorted(maps.Keys(m.interests)) {
		if bayeux.Match(via, e.channel) {
			m.s.Deliver(m.now, via, made, &m.out)
			m.flush(t)
		}
	}
}

func (m *model) connect(t *rapid.T) {
	if m.polling != 0 && (m.losses >= 6 || !rapid.Bool().Draw(t, "give up")) {
		t.Skip() // after 8 in a row the session does not believe it
	}
	m.poll(t)
}

func (m *model) poll(t *rapid.T) {
	if m.polling != 0 && (m.asked[m.polling].socket != 0 || m.wireHas(m.polling)) {
		m.drop(t)
		m.openSocket()
	}
	if m.polling != 0 { // it gives up, and cannot know what became of it
		m.failed = true
		m.losses++
		m.flight = slices.DeleteFunc(m.flight, func(f flight) bool {
			if f.answer.Exchange == m.polling {
				m.reports = append(m.reports, report{ex: f.answer.Exchange})
				return true
			}
			return false
		})
	}
	advice, extra := "", ""
	if m.failed && !m.ack {
		advice = `,"advice":{"timeout":0}`
	}
	if m.ack {
		extra = fmt.Sprintf(`,"ext":{"ack":%d}`, m.acked)
		for e, batch := range m.batches {
			if int64(batch) <= m.acked {
				delete(m.batches, e)
				m.freed[e] = true
			}
		}
	}
	m.failed = false
	m.polling = m.next + 1
	body := fmt.Sprintf(`{"channel":"/meta/connect","clientId":"S","id":"%d"%s%s}`, m.next, advice, extra)
	if m.socket != 0 && advice == "" && rapid.Bool().Draw(t, "with another") {
		body = `[{"channel":"/meta/unsubscribe","clientId":"S","subscription":"/none"},` + body + `]`
	}
	m.send(t, request{connect: true}, body)
}

func (m *model) subscribe(t *rapid.T) {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom(m.names()), 1, 3, rapid.ID[string]).Draw(t, "names")
	if m.readsSince(names...) {
		t.Skip() // who of two wins is not the matter here
	}
	r := request{since: map[string]int64{}}
	for _, name := range names {
		if _, ok := m.subs[name]; !ok && m.repl && !bayeux.IsPattern(name) && !m.interests[name] && !m.enlisting(name) {
			r.since[name] = rapid.Int64Range(-2, int64(m.end(shard.Of(name)))).Draw(t, "since")
			if n := r.since[name]; n >= 0 && uint64(n) < m.keep[name] {
				r.since[name] = bayeux.ReplayRetained
			}
		}
	}
	list, since := quoted(names), quotedMap(r.since)
	m.send(t, r, fmt.Sprintf(`{"channel":"/meta/subscribe","clientId":"S","subscription":%s,"ext":{"replay":%s}}`, list, since))
}

func quoted(v []string) string            { text, _ := json.Marshal(v); return string(text) }
func quotedMap(v map[string]int64) string { text, _ := json.Marshal(v); return string(text) }

func (m *model) unsubscribe(t *rapid.T) {
	if len(m.subs) == 0 {
		t.Skip()
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.subs))).Draw(t, "name")
	m.withdrawn[name] = true
	m.send(t, request{}, fmt.Sprintf(`{"channel":"/meta/unsubscribe","clientId":"S","subscription":%q}`, name))
}

func (m *model) publish(t *rapid.T) {
	body := strings.Repeat(`{"channel":"/b","clientId":"S","data":1},`, rapid.IntRange(1, 3).Draw(t, "n"))
	m.send(t, request{}, "["+strings.TrimSuffix(body, ",")+"]")
}

func (m *model) resolve(t *rapid.T) {
	if len(m.tasks) == 0 {
		t.Skip()
	}
	m.resolveOne(t, rapid.IntRange(0, len(m.tasks)-1).Draw(t, "task"))
}

func (m *model) resolveOne(t *rapid.T, i int) {
	run := m.tasks[i]
	m.tasks = slices.Delete(m.tasks, i, i+1)
	run(t)
}
