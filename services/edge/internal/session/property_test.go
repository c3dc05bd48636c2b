package session_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// TestProperties plays a session against a broker, a hub and a client that
// behave well, on a network that loses answers and is believed or not, in
// random order, and checks what doc.go promises:
//
//   - every exchange is answered exactly once, unless it was lost before;
//   - every event of a subscription reaches the client once and in order, or a
//     resync names the subscription; copies come only after a loss that was
//     reported of an answer that had arrived;
//   - a batch of the ack extension names one set of events for ever;
//   - the log is bounded;
//   - interests end when the session does.
func TestProperties(t *testing.T) {
	for range 20 { // of 100 games each
		rapid.Check(t, play)
	}
}

func play(t *rapid.T) {
	m := newModel(t)
	t.Repeat(map[string]func(*rapid.T){
		"":            m.check,
		"append":      m.appendEntry,
		"push":        m.push,
		"connect":     m.connect,
		"subscribe":   m.subscribe,
		"unsubscribe": m.unsubscribe,
		"publish":     m.publish,
		"resolve":     m.resolve,
		"arrive":      m.arrive,
		"report":      m.report,
		"vanish":      m.vanish,
		"resync":      m.resync,
		"forget":      m.forget,
		"lose":        m.lose,
		"pass":        m.pass,
	})
	m.finish(t)
}

// model is everything around the session.
type model struct {
	cfg  *session.Config
	s    *session.Session
	now  time.Time
	out  session.Effects
	ack  bool
	repl bool
	calm bool // nothing is lost on the way to the session

	whole bool // no subscription has a gap

	// The broker.
	logs map[shard.Slot][]entry
	keep map[string]uint64 // by channel: history up to here is gone

	// The hub.
	pushed    map[shard.Slot]int
	interests map[string]bool
	joins     map[string]uint64 // the newest join's token
	tasks     []task            // effects that await their answer

	// The network.
	open    map[session.Exchange]bool // sent and not answered
	gone    map[session.Exchange]bool // lost before the answer
	flight  []flight                  // answers on their way
	reports []report                  // fates the session does not know yet
	losses  int                       // in a row

	// The client.
	next     session.Exchange
	polling  session.Exchange // its connect, 0: none
	failed   bool             // its last connect failed
	acked    int64
	received map[string]int    // copies by event
	may      map[string]bool   // events that may come again
	last     map[string]uint64 // by channel
	batches  map[string]uint64 // by event: the batch it was first sent with, until acknowledged
	freed    map[string]bool   // events acknowledged
	asked    map[session.Exchange]request
	subs     map[string]sub  // what the server told it of
	due      map[string]bool // resyncs it must be told
	told     map[string]bool // events whose loss a resync has told
}

type entry struct {
	channel string
	offset  uint64
}

func (e entry) String() string { return e.channel + "@" + strconv.FormatUint(e.offset, 10) }

type sub struct{ start map[shard.Slot]uint64 }

type request struct {
	connect bool
	since   map[string]int64
}

type task func(t *rapid.T)

type flight struct {
	answer  session.Answer
	connect bool
}

type report struct {
	ex   session.Exchange
	lost bool
}

func channels() []string { return []string{"/a/x", "/a/y/z", "/b"} }

func newModel(t *rapid.T) *model {
	m := &model{
		ack:  rapid.Bool().Draw(t, "ack"),
		repl: rapid.Bool().Draw(t, "replay"),
		calm: rapid.Bool().Draw(t, "calm"),
		now:  time.Unix(1_800_000_000, 0),
		cfg: session.Config{
			QueueMessages: rapid.SampledFrom([]int{2, 5, 1000}).Draw(t, "queue"),
			Piggyback:     rapid.Bool().Draw(t, "piggyback"),
		}.Defaults(),
		logs: map[shard.Slot][]entry{}, keep: map[string]uint64{},
		pushed: map[shard.Slot]int{}, interests: map[string]bool{}, joins: map[string]uint64{},
		open: map[session.Exchange]bool{}, gone: map[session.Exchange]bool{},
		received: map[string]int{}, may: map[string]bool{}, last: map[string]uint64{},
		batches: map[string]uint64{}, freed: map[string]bool{},
		asked: map[session.Exchange]request{}, subs: map[string]sub{}, due: map[string]bool{}, told: map[string]bool{},
	}
	m.whole = m.calm
	if m.calm {
		m.cfg.QueueMessages = 1000
	}
	m.s = session.New(m.cfg, "S", "public", "", m.now)
	m.send(t, request{}, fmt.Sprintf(`{"channel":"/meta/handshake","supportedConnectionTypes":["long-polling"],"ext":{"ack":%v,"replay":%v}}`, m.ack, m.repl))
	m.drainNetwork(t)
	return m
}

// send is one request of the client.
func (m *model) send(t *rapid.T, r request, body string) session.Exchange {
	in, err := bayeux.Decode([]byte(body), bayeux.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m.next++
	ex := m.next
	m.open[ex] = true
	m.asked[ex] = r
	req := session.Request{Exchange: ex, Messages: in}
	if _, handshake := session.Route(in); handshake {
		m.s.Handshake(m.now, req, &m.out)
	} else {
		m.s.Receive(m.now, req, &m.out)
	}
	m.flush(t)
	return ex
}

// flush carries effects out.
func (m *model) flush(t *rapid.T) {
	out := m.out
	m.out = session.Effects{}
	for _, i := range out.Interests {
		m.interest(i)
	}
	for _, channel := range out.Joined {
		m.joined(channel)
	}
	for _, channel := range out.Left {
		delete(m.subs, channel)
		delete(m.due, channel)
		m.whole = m.whole && !m.repl // others may be told what it did not read for them
		for _, e := range m.logs[shard.Of(channel)] {
			if m.repl && e.channel == channel { // what it had read ahead of a wider one
				m.may[e.String()] = true
			}
		}
	}
	for _, p := range out.Publishes {
		m.tasks = append(m.tasks, func(t *rapid.T) {
			m.write(p.Channel)
			m.s.Published(m.now, p.Token, nil, &m.out)
			m.flush(t)
		})
	}
	for _, r := range out.Replays {
		m.tasks = append(m.tasks, func(t *rapid.T) { m.read(t, r) })
	}
	for _, a := range out.Answers {
		if !m.open[a.Exchange] {
			t.Fatalf("exchange %d answered, open are %v, lost %v", a.Exchange, m.open, m.gone)
		}
		delete(m.open, a.Exchange)
		connect := m.asked[a.Exchange].connect
		delete(m.asked, a.Exchange)
		m.sent(t, a, connect)
		m.flight = append(m.flight, flight{answer: a, connect: connect})
	}
	if n, most := m.s.Logged(), 2*m.cfg.QueueMessages; n > most {
		t.Fatalf("log holds %d, %d at most", n, most)
	}
}

// interest is the hub's part. A join is answered later, with the broker's
// position, which may be ahead of what has been pushed.
func (m *model) interest(i session.Interest) {
	if i.Leave {
		delete(m.interests, i.Channel)
		delete(m.joins, i.Channel)
		return
	}
	m.joins[i.Channel] = i.Token
	m.tasks = append(m.tasks, func(t *rapid.T) {
		var from []session.Position
		for _, slot := range slots(i.Channel) {
			from = append(from, session.Position{Slot: slot, Offset: m.end(slot)})
		}
		if m.joins[i.Channel] == i.Token { // else it has left meanwhile
			m.interests[i.Channel] = true
		}
		m.s.Subscribed(m.now, i.Token, from, nil, &m.out)
		m.flush(t)
	})
}

func slots(pattern string) []shard.Slot {
	var list []shard.Slot
	for _, channel := range channels() {
		if slot := shard.Of(channel); bayeux.Match(pattern, channel) && !slices.Contains(list, slot) {
			list = append(list, slot)
		}
	}
	slices.Sort(list)
	return list
}

// joined notes what the client is owed from now on.
func (m *model) joined(channel string) {
	s := sub{start: map[shard.Slot]uint64{}}
	for _, slot := range slots(channel) {
		s.start[slot] = m.end(slot)
	}
	for _, r := range m.asked {
		since, ok := r.since[channel]
		if !ok || since == bayeux.ReplayNew {
			continue
		}
		slot := shard.Of(channel)
		covered := m.end(slot) // the least start of older subscriptions
		for name, older := range m.subs {
			if m.whole && bayeux.Match(name, channel) {
				covered = min(covered, older.start[slot])
			}
		}
		from := max(since, 0)
		s.start[slot] = uint64(from)
		for _, e := range m.logs[slot] {
			if e.channel == channel && e.offset <= covered {
				m.may[e.String()] = true
			}
			if e.channel == channel && e.offset <= m.keep[channel] && since == bayeux.ReplayRetained {
				s.start[slot] = max(s.start[slot], e.offset)
			}
		}
	}
	for ex, r := range m.asked {
		delete(r.since, channel)
		m.asked[ex] = r
	}
	m.subs[channel] = s
}

func (m *model) end(slot shard.Slot) uint64 {
	if log := m.logs[slot]; len(log) > 0 {
		return log[len(log)-1].offset
	}
	return 0
}

func (m *model) write(channel string) {
	slot := shard.Of(channel)
	m.logs[slot] = append(m.logs[slot], entry{channel, m.end(slot) + 1})
}

func (e entry) event() *session.Event {
	at := session.Position{Slot: shard.Of(e.channel), Offset: e.offset}
	return session.NewEvent(e.channel, at, strconv.AppendUint(nil, e.offset, 10), nil, nil, time.Time{})
}

func (m *model) read(t *rapid.T, r session.Replay) {
	slot := shard.Of(r.Channel)
	page := session.Page{Through: m.end(slot)}
	if s, ok := m.subs[r.Channel]; ok && r.Earliest {
		s.start[slot] = max(s.start[slot], m.keep[r.Channel])
	}
	if !r.Earliest && r.Since < m.keep[r.Channel] {
		page.Lost = true
	}
	limit := rapid.IntRange(1, r.Limit+1).Draw(t, "page")
	for _, e := range m.logs[slot] {
		if e.channel != r.Channel || e.offset <= max(r.Since, m.keep[r.Channel]) || page.Lost {
			continue
		}
		if len(page.Events) == limit {
			page.Through = page.Events[limit-1].At.Offset
			break
		}
		page.Events = append(page.Events, e.event())
	}
	m.s.Replayed(m.now, r.Token, page, nil, &m.out)
	m.flush(t)
}

// sent looks at an answer as it leaves, whether it will arrive or not.
func (m *model) sent(t *rapid.T, a session.Answer, connect bool) {
	if a.Status != 200 {
		return
	}
	events, reply := parse(t, a.Body)
	if len(events) > 0 && !connect && (m.ack || !m.cfg.Piggyback) {
		t.Fatalf("events on an answer that is not a connect's: %s", a.Body)
	}
	if connect && (reply == nil || reply.Channel != bayeux.Connect) {
		t.Fatalf("a connect's answer does not end with its reply: %s", a.Body)
	}
	if !m.ack || !connect {
		return
	}
	present := map[string]bool{}
	for _, e := range events {
		if m.freed[e.String()] && !m.may[e.String()] {
			t.Fatalf("%v was acknowledged and is sent again", e)
		}
		if _, ok := m.batches[e.String()]; !ok {
			m.batches[e.String()] = reply.batch()
		}
		present[e.String()] = true
	}
	if m.cfg.QueueMessages < 1000 {
		return // some may have been dropped
	}
	for e := range m.batches {
		if !present[e] {
			t.Fatalf("%v is not acknowledged and not sent with batch %d", e, reply.batch())
		}
	}
}

type connectReply struct {
	Channel string
	Ext     struct {
		Ack   json.RawMessage
		Comet struct{ Resync []string }
	}
}

func (r *connectReply) batch() uint64 {
	n, _ := strconv.ParseUint(string(r.Ext.Ack), 10, 64)
	return n
}

// parse returns the events of a body in order and its last reply.
func parse(t *rapid.T, body []byte) (events []entry, reply *connectReply) {
	var messages []json.RawMessage
	if err := json.Unmarshal(body, &messages); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	for _, raw := range messages {
		var e struct {
			Channel string
			Data    *uint64
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		if e.Data != nil {
			events = append(events, entry{e.Channel, *e.Data})
			reply = nil
			continue
		}
		reply = &connectReply{}
		if err := json.Unmarshal(raw, reply); err != nil {
			t.Fatal(err)
		}
	}
	return events, reply
}

// The actions.

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
			m.s.Resync(m.now, name, &m.out)
			m.flush(t)
		}
	}
}

func (m *model) pushOne(t *rapid.T, slot shard.Slot) {
	e := m.logs[slot][m.pushed[slot]]
	m.pushed[slot]++
	event := e.event()
	for _, via := range slices.Sorted(maps.Keys(m.interests)) {
		if bayeux.Match(via, e.channel) {
			m.s.Deliver(m.now, via, event, &m.out)
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
	m.send(t, request{connect: true}, fmt.Sprintf(`{"channel":"/meta/connect","clientId":"S","id":"%d"%s%s}`, m.next, advice, extra))
}

func (m *model) subscribe(t *rapid.T) {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom(append(channels(), "/a/*", "/a/**", "/**")), 1, 3, rapid.ID[string]).Draw(t, "names")
	for _, r := range m.asked {
		for _, name := range names {
			if _, ok := r.since[name]; ok {
				t.Skip() // who of two wins is not the matter here
			}
		}
	}
	r := request{since: map[string]int64{}}
	for _, name := range names {
		if _, ok := m.subs[name]; !ok && m.repl && !bayeux.IsPattern(name) && !m.interests[name] {
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
	m.reports = append(m.reports, report{ex: ex, lost: arrives != honest})
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
		m.take(t, e)
		if !honest || !f.connect { // nothing confirms a piggybacked one but a good connect
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
	if m.received[e.String()]++; m.received[e.String()] > 1 && !m.may[e.String()] {
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
	if r.lost {
		m.s.Lost(m.now, r.ex, &m.out)
	} else {
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
	m.s.Resync(m.now, name, &m.out)
	m.flush(t)
}

// pass lets time pass, too little for the session to expire.
func (m *model) pass(t *rapid.T) {
	if !m.s.Holding() {
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
		if !more && m.s.Holding() && m.s.Queued() == 0 {
			break
		}
	}
	if !m.s.Holding() || m.s.Queued() > 0 {
		t.Fatalf("no rest: polling %d, open %v, queued %d, tasks %d", m.polling, m.open, m.s.Queued(), len(m.tasks))
	}
	for name, s := range m.subs {
		for slot, start := range s.start {
			for _, e := range m.logs[slot] {
				if id := e.String(); e.offset > start && bayeux.Match(name, e.channel) && m.received[id] == 0 && !m.told[id] {
					t.Errorf("%v of %s, from %d, never came, and no resync told so", e, name, start)
				}
			}
		}
	}
	for name := range m.due {
		t.Errorf("resync of %s was never told", name)
	}
	m.s.End(m.now, session.Evicted, &m.out)
	m.flush(t)
	if len(m.interests) > 0 || len(m.open) > 0 {
		t.Errorf("left behind: interests %v, exchanges %v", m.interests, m.open)
	}
}
