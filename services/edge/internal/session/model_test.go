package session_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// model is everything around the session.
type model struct {
	cfg  *session.Config
	s    *session.Session
	now  time.Time
	out  session.Effects
	ack  bool
	repl bool
	calm bool // nothing is lost on the way to the session

	slow    session.Policy // of shedding
	literal bool           // no patterns

	whole bool // no subscription has a gap

	// The broker.
	logs map[shard.Slot][]entry
	keep map[string]uint64 // by channel: history up to here is gone

	// The hub.
	pushed    map[shard.Slot]int
	interests map[string]bool
	joins     map[string]uint64 // the newest join's token
	tasks     []task            // effects that await their answer

	// Other edges.
	older  []uint64          // what was handed over when holders were last told of it
	vector []uint64          // what holders of records were told
	record *session.Snapshot // likewise
	behind bool              // it says more than the channels
	before []uint64          // the vector before: what all holders have
	exact  bool              // answers of the ack extension are recorded before they go out
	moved  bool              // the session went on elsewhere at least once
	old    bool              // its batches are far ahead of those of record
	aged   bool              // they were

	// The network.
	open    map[session.Exchange]int  // sent, by answers that are to come
	gone    map[session.Exchange]bool // lost before the answer
	flight  []flight                  // answers on their way
	reports []report                  // fates the session does not know yet
	losses  int                       // in a row
	opened  uint64                    // sockets
	closed  map[uint64]bool           // sockets that the session knows to be gone
	home    uint64                    // the socket of the newest connect, 0: HTTP
	wire    []frame                   // frames on their way to the client
	pongs   []report                  // on their way from it
	unsure  []pushed                  // over the socket, and not confirmed
	full    bool                      // the session knows that the socket is full

	// The client.
	next     session.Exchange
	polling  session.Exchange // its connect, 0: none
	socket   uint64           // 0: HTTP
	failed   bool             // its last connect failed
	acked    int64
	received map[string]int    // copies by event
	may      map[string]bool   // events that may come again
	last     map[string]uint64 // by channel
	batches  map[string]uint64 // by event: the batch it was first sent with, until acknowledged
	newest   uint64            // batch
	freed    map[string]bool   // events acknowledged
	asked    map[session.Exchange]request
	subs     map[string]sub  // what the server told it of
	due      map[string]bool // resyncs it must be told
	told     map[string]bool // events whose loss a resync has told

	// Backends.
	order     session.Order              // the last one
	orders    map[session.Order][]string // not answered: channels
	withdrawn map[string]bool            // channels, at any time
}

type entry struct {
	channel string
	offset  uint64
}

func (e entry) String() string { return e.channel + "@" + strconv.FormatUint(e.offset, 10) }

type sub struct{ start map[shard.Slot]uint64 }

type request struct {
	connect bool
	socket  uint64
	since   map[string]int64
}

type task func(t *rapid.T)

type flight struct {
	answer  session.Answer
	connect bool
}

// frame is an answer, an event or a ping on a socket.
type frame struct {
	flight
	event *entry
	ping  byte
}

// pushed is an event on a socket, and the ping behind it, 0: none yet.
type pushed struct {
	entry
	ping byte
}

// report is the fate of an exchange, the end of a socket, or a pong.
type report struct {
	ex     session.Exchange
	lost   bool
	socket uint64
	ping   byte
}

// channels are those there are; the first two have one slot.
func channels() []string { return []string{"/a/x", "/a/347", "/a/y/z", shedding} }

// shedding is the channel that may have another policy than to recover.
const shedding = "/b"

func newModel(t *rapid.T) *model { return newModelWith(t, func(*model) {}) }

// newModelWith lets some of what is drawn be decided.
func newModelWith(t *rapid.T, decide func(m *model)) *model {
	m := &model{
		ack:   rapid.Bool().Draw(t, "ack"),
		repl:  rapid.Bool().Draw(t, "replay"),
		exact: rapid.Bool().Draw(t, "exact"),
		calm:  rapid.Bool().Draw(t, "calm"),
		now:   time.Unix(1_800_000_000, 0),
		cfg: session.Config{
			QueueMessages: rapid.SampledFrom([]int{2, 5, 1000}).Draw(t, "queue"),
			Piggyback:     rapid.Bool().Draw(t, "piggyback"),
			Slow:          func(string) session.Policy { return session.Recover },
		}.Defaults(),
		slow: rapid.SampledFrom([]session.Policy{session.Recover, session.DropOldest, session.Conflate}).Draw(t, "slow"),
		logs: map[shard.Slot][]entry{}, keep: map[string]uint64{},
		pushed: map[shard.Slot]int{}, interests: map[string]bool{}, joins: map[string]uint64{},
		open: map[session.Exchange]int{}, closed: map[uint64]bool{}, gone: map[session.Exchange]bool{},
		received: map[string]int{}, may: map[string]bool{}, last: map[string]uint64{},
		batches: map[string]uint64{}, freed: map[string]bool{},
		asked: map[session.Exchange]request{}, subs: map[string]sub{}, due: map[string]bool{}, told: map[string]bool{},
		orders: map[session.Order][]string{}, withdrawn: map[string]bool{},
	}
	decide(m)
	m.whole = m.calm && m.slow == session.Recover
	m.cfg.Slow = func(channel string) session.Policy {
		if channel == shedding {
			return m.slow
		}
		return session.Recover
	}
	if m.calm {
		m.cfg.QueueMessages = 1000
	}
	if rapid.Bool().Draw(t, "socket") {
		m.openSocket()
	}
	m.closed[m.home] = true // the next frame decides
	m.s = session.New(m.cfg, "S", "public", "")
	m.send(t, request{}, fmt.Sprintf(`{"channel":"/meta/handshake","supportedConnectionTypes":["long-polling"],"ext":{"ack":%v,"replay":%v}}`, m.ack, m.repl))
	m.drainNetwork(t)
	m.older = m.handed()
	m.note()
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
	if m.socket != 0 && (r.connect || rapid.IntRange(0, 3).Draw(t, "over HTTP") > 0) {
		r.socket = m.socket
	}
	m.open[ex] = 1
	if r.connect && r.socket != 0 {
		m.open[ex] = len(in)
	}
	m.asked[ex] = r
	if r.connect {
		m.home = r.socket
		m.closed[0] = false // from now on a place like others
	}
	req := session.Request{Exchange: ex, Socket: r.socket, Messages: in}
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
		m.note()
		delete(m.due, channel)
		m.whole = m.whole && !m.repl // others may be told what it did not read for them
		for _, e := range m.logs[shard.Of(channel)] {
			if m.repl && e.channel == channel { // what it had read ahead of a wider one
				m.may[e.String()] = true
			}
		}
	}
	for _, c := range out.Carried {
		m.carried(t, c)
	}
	s := m.s
	for _, p := range out.Publishes {
		m.tasks = append(m.tasks, func(t *rapid.T) {
			m.write(p.Channel)
			s.Published(m.now, p.Token, nil, &m.out)
			m.flushOf(t, s)
		})
	}
	for _, r := range out.Replays {
		m.tasks = append(m.tasks, func(t *rapid.T) { m.read(t, s, r) })
	}
	for _, p := range out.Places {
		m.tasks = append(m.tasks, func(t *rapid.T) { m.confirm(t, s, p) })
	}
	for _, a := range out.Answers {
		m.answer(t, a)
	}
	m.pushedFrames(t, &out.Pushes)
	if n, most := m.s.Logged(), 2*m.cfg.QueueMessages; n > most {
		t.Fatalf("log holds %d, %d at most", n, most)
	}
}

// answer puts an answer on its way.
func (m *model) answer(t *rapid.T, a session.Answer) {
	if a.Socket != 0 && a.Socket != m.socket {
		return // nobody is there any more
	}
	if m.open[a.Exchange] == 0 {
		t.Fatalf("exchange %d answered, open are %v, lost %v", a.Exchange, m.open, m.gone)
	}
	r := m.asked[a.Exchange]
	if a.Socket != r.socket {
		t.Fatalf("an answer to %d goes to %d", r.socket, a.Socket)
	}
	connect := r.connect
	if a.Socket != 0 && connect {
		_, reply := parse(t, a.Body)
		connect = reply.Channel == bayeux.Connect
	}
	if m.open[a.Exchange]--; m.open[a.Exchange] == 0 {
		delete(m.open, a.Exchange)
		delete(m.asked, a.Exchange)
	}
	m.sent(t, a, connect)
	if a.Record != (m.ack && connect && a.Status == 200 && m.brings(t, a)) {
		t.Fatalf("Record is %v: %s", a.Record, a.Body)
	}
	if a.Record && m.exact {
		m.note()
	}
	f := flight{answer: a, connect: connect}
	if a.Socket != 0 {
		m.wire = append(m.wire, frame{flight: f})
	} else {
		m.flight = append(m.flight, f)
	}
}

// pushedFrames puts events on their way.
func (m *model) pushedFrames(t *rapid.T, pushes *session.Pushes) {
	if pushes.Len() == 0 && pushes.Ping == 0 {
		return
	}
	if m.ack || m.full && pushes.Socket == m.socket {
		t.Fatalf("%d events were pushed, with ack %v, full %v", pushes.Len(), m.ack, m.full)
	}
	if pushes.Socket != m.home && !m.closed[m.home] || m.closed[pushes.Socket] {
		t.Fatalf("events went to socket %d, the newest connect came on %d", pushes.Socket, m.home)
	}
	for e := range pushes.All() {
		at := entry{e.Channel, e.At.Offset}
		if pushes.Socket == m.socket { // else nobody is there any more
			m.wire = append(m.wire, frame{event: &at})
			m.unsure = append(m.unsure, pushed{entry: at})
		}
	}
	if pushes.Ping == 0 || pushes.Socket != m.socket {
		return
	}
	m.wire = append(m.wire, frame{ping: pushes.Ping})
	for i := range m.unsure {
		if m.unsure[i].ping != 0 && m.unsure[i].ping != pushes.Ping {
			t.Fatalf("ping %d goes before the pong of %d", pushes.Ping, m.unsure[i].ping)
		}
		m.unsure[i].ping = pushes.Ping
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
	s := m.s
	m.tasks = append(m.tasks, func(t *rapid.T) {
		if s == m.s && m.joins[i.Channel] == i.Token { // else it has left meanwhile
			if _, known := m.subs[i.Channel]; known && m.moved && m.joinFails(t, i) {
				return
			}
			m.interests[i.Channel] = true
		}
		m.confirm(t, s, i)
	})
}

// confirm answers a join.
func (m *model) confirm(t *rapid.T, s *session.Session, i session.Interest) {
	var from []shard.Position
	for _, slot := range slots(i.Channel) {
		from = append(from, shard.Position{Slot: slot, Offset: m.end(slot)})
	}
	s.Subscribed(m.now, i.Token, from, nil, &m.out)
	m.flushOf(t, s)
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
	m.note()
}

func (m *model) end(slot shard.Slot) uint64 {
	if log := m.logs[slot]; len(log) > 0 {
		return log[len(log)-1].offset
	}
	return logsBegin
}

// logsBegin is where they do: 0 stands for a place that is not known.
const logsBegin = 100

func (m *model) write(channel string) {
	slot := shard.Of(channel)
	m.logs[slot] = append(m.logs[slot], entry{channel, m.end(slot) + 1})
}

func (e entry) event() *event.Event {
	at := shard.Position{Slot: shard.Of(e.channel), Offset: e.offset}
	return event.New(e.channel, at, strconv.AppendUint(nil, e.offset, 10), nil, nil, time.Time{})
}

// read answers a replay.
func (m *model) read(t *rapid.T, session *session.Session, r session.Replay) {
	page := m.page(r)
	limit := rapid.IntRange(1, r.Limit+1).Draw(t, "page")
	if len(page.Events) > limit {
		page.Events = page.Events[:limit]
		page.Through = page.Events[limit-1].At.Offset
	}
	var err *bayeux.Error
	if m.moved && !m.calm && m.subscribed(r.Channels) && rapid.IntRange(0, 9).Draw(t, "unreadable") == 0 {
		err = bayeux.Unavailable()
	}
	session.Replayed(m.now, r.Token, page, err, &m.out)
	m.flushOf(t, session)
}

// page is all that a replay asks for.
func (m *model) page(r session.Replay) session.Page {
	page := session.Page{Through: m.end(r.Slot)}
	wanted := map[string]bool{} // channels
	for _, name := range r.Channels {
		lost := !r.Earliest && r.Since > page.Through
		var matching []string
		for _, channel := range channels() {
			if shard.Of(channel) == r.Slot && bayeux.Match(name, channel) {
				matching = append(matching, channel)
				lost = lost || !r.Earliest && r.Since < m.keep[channel]
			}
		}
		if lost {
			page.Lost = append(page.Lost, name)
			continue
		}
		for _, channel := range matching {
			wanted[channel] = true
			if s, ok := m.subs[name]; ok && r.Earliest {
				s.start[r.Slot] = max(s.start[r.Slot], m.keep[channel])
			}
		}
	}
	for _, e := range m.logs[r.Slot] {
		if wanted[e.channel] && e.offset > m.keep[e.channel] && (r.Earliest || e.offset > r.Since) {
			page.Events = append(page.Events, e.event())
		}
	}
	return page
}

func (m *model) subscribed(names []string) bool {
	for _, name := range names {
		if _, ok := m.subs[name]; !ok {
			return false
		}
	}
	return true
}

// sent looks at an answer as it leaves, whether it will arrive or not.
func (m *model) sent(t *rapid.T, a session.Answer, connect bool) {
	if a.Status != 200 {
		return
	}
	events, reply := parse(t, a.Body)
	if len(events) > 0 && a.Socket != 0 && !m.ack {
		t.Fatalf("events on a socket's answer: %s", a.Body)
	}
	if len(events) > 0 && !connect && (m.ack || !m.cfg.Piggyback) {
		t.Fatalf("events on an answer that is not a connect's: %s", a.Body)
	}
	if connect && (reply == nil || reply.Channel != bayeux.Connect) {
		t.Fatalf("a connect's answer does not end with its reply: %s", a.Body)
	}
	if !m.ack || !connect {
		return
	}
	if reply.batch() <= m.newest {
		t.Fatalf("batch %d comes after %d", reply.batch(), m.newest)
	}
	m.newest = reply.batch()
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

// brings reports whether an answer tells of events or losses.
func (m *model) brings(t *rapid.T, a session.Answer) bool {
	events, reply := parse(t, a.Body)
	return len(events)+len(reply.Ext.Comet.Resync) > 0
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
