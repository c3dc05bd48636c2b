package plain_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

// model is everything around a reader: a broker, the hub of an edge, a stream
// that fills up, and a client that goes on from what it was told.
type model struct {
	cfg      *plain.Config
	channels []string
	shape    plain.Shape
	now      time.Time
	calm     bool // nothing fails any more

	// The broker.
	logs map[shard.Slot][]entry
	keep map[string]uint64 // by channel: history up to here is gone

	// The hub. Like edges, it lags behind the broker.
	pushed map[shard.Slot]uint64
	from   map[string]map[shard.Slot]uint64 // by interest that has joined

	// The connection.
	r       *plain.Reader
	since   shard.Since
	wait    time.Duration
	limit   int
	started time.Time
	tasks   []func(t *rapid.T)
	blocked bool
	open    bool
	ended   plain.Reason
	got     map[entry]bool    // on this connection
	newest  map[string]uint64 // likewise, by channel
	told    []loss            // likewise
	losses  map[string]bool   // what may be told
	start   map[entry]bool    // what the client must not get: it came before
	spared  map[entry]bool    // what it need not get: it was not retained
	dropped plain.Dropped
	cursors []string              // that the client was given, by all connections
	last    map[shard.Slot]uint64 // the newest cursor
}

type entry struct {
	channel string
	offset  uint64
}

// loss is a resync that the client was told.
type loss struct {
	channel string
	at      map[shard.Slot]uint64
}

// future is where no log ever comes.
const future = 1 << 40

// names are channels of which two share a slot.
func names() []string {
	for i := 0; ; i++ {
		if name := "/a/" + strconv.Itoa(i); shard.Of(name) == shard.Of("/b") {
			return []string{"/a/x", name, "/b"}
		}
	}
}

func newModel(t *rapid.T, cfg plain.Config) *model {
	all := names()
	m := &model{
		channels: rapid.SampledFrom([][]string{
			all[2:], all[2:], all, {"/a/*"}, {all[0], "/b"}, {"/**", "/a/*", "/b"},
		}).Draw(t, "channels"),
		shape: rapid.SampledFrom([]plain.Shape{plain.Stream, plain.Stream, plain.Poll, plain.LongPoll}).Draw(t, "shape"),
		now:   time.Unix(1_800_000_000, 0),
		logs:  map[shard.Slot][]entry{}, keep: map[string]uint64{}, pushed: map[shard.Slot]uint64{},
	}
	cfg.Handed = func(slot shard.Slot) uint64 { return m.pushed[slot] }
	m.cfg = cfg.Defaults()
	for _, name := range all {
		for range rapid.IntRange(0, 3).Draw(t, "old") {
			m.write(name)
		}
	}
	m.connect(t, rapid.SampledFrom([]string{shard.Latest, shard.Earliest}).Draw(t, "since"))
	return m
}

func (m *model) write(channel string) {
	slot := shard.Of(channel)
	m.logs[slot] = append(m.logs[slot], entry{channel, m.end(slot) + 1})
}

func (m *model) end(slot shard.Slot) uint64 {
	if log := m.logs[slot]; len(log) > 0 {
		return log[len(log)-1].offset
	}
	return 0
}

func (e entry) event() *event.Event {
	at := shard.Position{Slot: shard.Of(e.channel), Offset: e.offset}
	return event.New(e.channel, at, []byte(`""`), nil, nil, time.Time{})
}

// connect is the next request of the client.
func (m *model) connect(t *rapid.T, cursor string) {
	since, err := shard.ParseSince(m.channels, cursor)
	if err != nil {
		t.Fatalf("%v: %q", err, cursor)
	}
	m.since, m.started, m.blocked, m.open, m.ended = since, m.now, false, false, ""
	m.wait, m.limit = 30*time.Second, rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "limit")
	m.from, m.tasks = map[string]map[shard.Slot]uint64{}, nil
	m.got, m.newest, m.told = map[entry]bool{}, map[string]uint64{}, nil
	m.losses, m.start, m.spared = map[string]bool{}, map[entry]bool{}, map[entry]bool{}
	m.dropped, m.last = plain.Dropped{}, map[shard.Slot]uint64{}
	m.leave(since.At)
	m.r = plain.New(m.cfg, plain.Request{
		Shape: m.shape, Channels: m.channels, Since: since, Encoding: event.Line, Wait: m.wait, Limit: m.limit,
	}, m.now)
	var out plain.Effects
	m.r.Start(m.now, &out)
	m.settle(t, &out)
}

// leave notes what comes before positions, and so need not be sent.
func (m *model) leave(at map[shard.Slot]uint64) {
	for slot, offset := range at {
		for _, e := range m.logs[slot] {
			if e.offset <= offset && offset < future {
				m.start[e] = true
			}
		}
	}
}

// settle is what the shell does after a call.
func (m *model) settle(t *rapid.T, out *plain.Effects) {
	for {
		for _, f := range out.Frames {
			m.receive(t, f)
		}
		m.book(t, out)
		if len(out.Frames) > 0 && rapid.IntRange(0, 3).Draw(t, "full") == 0 {
			m.block()
			return
		}
		if !out.More || m.ended != "" {
			return
		}
		*out = plain.Effects{}
		m.r.Writable(m.now, out)
	}
}

func (m *model) block() {
	if m.ended == "" {
		m.blocked = true
		m.r.Blocked()
	}
}

// book carries out all effects but frames.
func (m *model) book(t *rapid.T, out *plain.Effects) {
	m.dropped.Oldest += out.Dropped.Oldest
	m.dropped.Conflated += out.Dropped.Conflated
	m.dropped.Age += out.Dropped.Age
	for _, i := range out.Interests {
		if i.Leave {
			delete(m.from, i.Channel)
			continue
		}
		m.tasks = append(m.tasks, func(t *rapid.T) { m.join(t, i) })
	}
	for _, q := range out.Reads {
		m.read(t, q)
	}
	if out.Ended == "" {
		return
	}
	if m.ended = out.Ended; m.shape != plain.Stream && m.ended != plain.Refused {
		m.answer(t, out)
	}
}

// join answers an interest. Upstream may have joined ahead of what is pushed.
func (m *model) join(t *rapid.T, i plain.Interest) {
	ahead := rapid.Bool().Draw(t, "ahead")
	from := map[shard.Slot]uint64{}
	var told []shard.Position
	for _, slot := range shard.SlotsOf([]string{i.Channel}) {
		from[slot] = m.pushed[slot]
		if ahead {
			from[slot] = m.end(slot)
		}
		told = append(told, shard.Position{Slot: slot, Offset: from[slot]})
	}
	m.from[i.Channel] = from
	var out plain.Effects
	m.r.Subscribed(m.now, i.Token, told, nil, &out)
	m.settle(t, &out)
}

// read answers from the log: of each slot at another time. Now and then it is
// not answered for all.
func (m *model) read(t *rapid.T, q plain.Read) {
	if len(q.Slots) == 0 || len(q.Slots) > m.cfg.Ahead {
		t.Fatalf("%d slots are read at once", len(q.Slots))
	}
	pages, left := make([]plain.Page, len(q.Slots)), len(q.Slots)
	for i := range q.Slots {
		m.tasks = append(m.tasks, func(t *rapid.T) {
			pages[i] = m.page(t, &q.Slots[i])
			if left--; left > 0 {
				return
			}
			var err *bayeux.Error
			if !m.calm && len(m.cursors) > 0 && rapid.IntRange(0, 15).Draw(t, "error") == 0 {
				pages, err = pages[:rapid.IntRange(0, len(pages)-1).Draw(t, "good")], bayeux.Unavailable()
			}
			var out plain.Effects
			m.r.Replayed(m.now, q.Token, pages, err, &out)
			m.settle(t, &out)
		})
	}
}

// page is of a random size.
func (m *model) page(t *rapid.T, q *plain.SlotRead) plain.Page {
	page := plain.Page{Through: m.end(q.Slot)}
	for _, c := range q.Channels {
		if !q.Earliest && m.gone(c, q.Slot, q.Since) {
			page.Lost = append(page.Lost, c)
			m.losses[c] = true
		}
	}
	limit := rapid.IntRange(1, q.Limit).Draw(t, "limit of a page")
	for _, e := range m.logs[q.Slot] {
		if e.offset <= m.keep[e.channel] {
			if q.Earliest {
				m.spared[e] = true
			}
			continue
		}
		if e.offset <= q.Since || !matches(q.Channels, e.channel) || matches(page.Lost, e.channel) {
			continue
		}
		if len(page.Events) == limit {
			page.Through = page.Events[limit-1].At.Offset
			break
		}
		page.Events = append(page.Events, e.event())
	}
	if len(page.Lost) > 0 && rapid.Bool().Draw(t, "shy") {
		page.Through = max(page.Through, q.Since) // as if the position had been one
	}
	return page
}

// gone reports whether something of a channel or pattern after a position is.
func (m *model) gone(channel string, slot shard.Slot, since uint64) bool {
	return since > m.end(slot) || slices.ContainsFunc(names(), func(name string) bool {
		return shard.Of(name) == slot && bayeux.Match(channel, name) && m.keep[name] > since
	})
}

func matches(channels []string, name string) bool {
	return slices.ContainsFunc(channels, func(c string) bool { return bayeux.Match(c, name) })
}

// push hands out the next entry of a slot.
func (m *model) push(t *rapid.T, slot shard.Slot) {
	for _, e := range m.logs[slot] {
		if e.offset <= m.pushed[slot] {
			continue
		}
		vias := slices.Clone(m.channels)
		if rapid.Bool().Draw(t, "reverse") {
			slices.Reverse(vias)
		}
		for _, via := range vias {
			if from, joined := m.from[via]; joined && bayeux.Match(via, e.channel) && e.offset > from[slot] {
				m.deliver(t, via, e)
			}
		}
		m.pushed[slot] = e.offset
		return
	}
}

func (m *model) deliver(t *rapid.T, via string, e entry) {
	var out plain.Effects
	if m.r.Deliver(m.now, via, e.event(), &out) {
		if m.blocked {
			t.Fatalf("%v is sent to a stream that is full", e)
		}
		m.message(t, e)
		if rapid.IntRange(0, 3).Draw(t, "full") == 0 {
			m.block()
		}
		return
	}
	m.settle(t, &out)
}

// lose has the hub miss what it has not pushed of a slot.
func (m *model) lose(t *rapid.T, slot shard.Slot) {
	at := m.end(slot)
	var lost []string
	for _, e := range m.logs[slot] {
		if e.offset > m.pushed[slot] {
			m.keep[e.channel] = max(m.keep[e.channel], e.offset)
			for via, from := range m.from {
				if bayeux.Match(via, e.channel) && e.offset > from[slot] {
					lost = append(lost, via)
				}
			}
		}
	}
	slices.Sort(lost)
	for _, via := range slices.Compact(lost) {
		m.losses[via] = true
		var out plain.Effects
		m.r.Resync(m.now, via, shard.Position{Slot: slot, Offset: at}, &out)
		m.settle(t, &out)
	}
	m.pushed[slot] = at
}

// receive looks at a frame as the client does.
func (m *model) receive(t *rapid.T, f *frame.Frame) {
	var o struct {
		Type, Channel, Reason, Cursor string
		Position                      uint64
		Channels                      []string
	}
	if err := json.Unmarshal(f.Payload(), &o); err != nil {
		t.Fatalf("%v: %s", err, f.Payload())
	}
	if m.ended != "" {
		t.Fatalf("a frame behind the end: %s", f.Payload())
	}
	if m.blocked && m.r.Ended() == "" {
		t.Fatalf("a frame for a stream that is full: %s", f.Payload())
	}
	if m.open == (o.Type == "open") {
		t.Fatalf("open is not the first frame: %s", f.Payload())
	}
	switch o.Type {
	case "":
		m.message(t, entry{o.Channel, o.Position})
		return
	case "open":
		m.open = true
	case "resync":
		m.resync(t, o.Channels, o.Cursor)
	}
	m.cursor(t, o.Cursor)
}

func (m *model) resync(t *rapid.T, channels []string, cursor string) {
	since, err := shard.ParseSince(m.channels, cursor)
	if err != nil {
		t.Fatal(err)
	}
	if len(channels) > 0 && since.At == nil && m.r.Ended() == "" {
		t.Fatalf("a resync without a position, and no end")
	}
	maps.DeleteFunc(since.At, func(_ shard.Slot, at uint64) bool { return at >= future })
	for _, c := range channels {
		if !m.losses[c] {
			t.Fatalf("%s has lost nothing", c)
		}
		m.told = append(m.told, loss{c, since.At})
	}
}

func (m *model) message(t *rapid.T, e entry) {
	switch {
	case m.got[e]:
		t.Fatalf("%v came twice", e)
	case m.newest[e.channel] > e.offset:
		t.Fatalf("%v came after %d", e, m.newest[e.channel])
	case !matches(m.channels, e.channel):
		t.Fatalf("nobody asked for %v", e)
	case m.start[e]:
		t.Fatalf("%v comes before the beginning", e)
	}
	for _, l := range m.told {
		if bayeux.Match(l.channel, e.channel) && e.offset <= l.at[shard.Of(e.channel)] {
			t.Fatalf("%v belongs to history that was said to be lost", e)
		}
	}
	m.got[e], m.newest[e.channel] = true, e.offset
	if len(m.channels) == 1 && !bayeux.IsPattern(m.channels[0]) {
		m.cursor(t, strconv.FormatUint(e.offset, 10))
	}
}

// cursor checks that whoever goes on from a cursor has missed nothing.
func (m *model) cursor(t *rapid.T, cursor string) {
	m.cursors = append(m.cursors, cursor)
	since, err := shard.ParseSince(m.channels, cursor)
	if err != nil {
		t.Fatalf("%v: %q", err, cursor)
	}
	if since.At == nil { // "earliest" stands for all of it, "latest" only before anything was joined
		return
	}
	if m.since.At == nil && !m.since.Earliest && len(m.cursors) > 0 && len(m.last) == 0 {
		m.leave(since.At)
	}
	missing := 0
	for slot, at := range since.At {
		if at >= future {
			continue // it is only repeated to the client
		}
		if at < m.last[slot] {
			t.Fatalf("the cursor of slot %d falls from %d to %d", slot, m.last[slot], at)
		}
		m.last[slot] = at
		for _, e := range m.logs[slot] {
			if e.offset <= at && m.owed(e) {
				missing++
				if m.dropped.Oldest+m.dropped.Conflated+m.dropped.Age == 0 {
					t.Fatalf("%v is missing at cursor %d", e, at)
				}
			}
		}
	}
	if dropped := m.dropped.Oldest + m.dropped.Conflated + m.dropped.Age; missing > dropped {
		t.Fatalf("%d messages are missing, %d were dropped", missing, dropped)
	}
}

// owed reports whether the client should have been sent an entry, and was not.
func (m *model) owed(e entry) bool {
	if !matches(m.channels, e.channel) || m.got[e] || m.start[e] || m.spared[e] {
		return false
	}
	return !slices.ContainsFunc(m.told, func(l loss) bool {
		return bayeux.Match(l.channel, e.channel) && e.offset <= l.at[shard.Of(e.channel)]
	})
}

// answer looks at the answer of a poll.
func (m *model) answer(t *rapid.T, out *plain.Effects) {
	var batch struct {
		Messages []struct {
			Channel  string
			Position uint64
		}
		Cursor, End string
		Resync      []string
	}
	if err := json.Unmarshal(out.Answer.Body, &batch); err != nil {
		t.Fatalf("%v: %s", err, out.Answer.Body)
	}
	switch {
	case batch.Cursor != out.Answer.Cursor:
		t.Fatalf("the cursor is %s, in the body %s", out.Answer.Cursor, batch.Cursor)
	case len(batch.Messages) > m.limit:
		t.Fatalf("%d messages, %d at most", len(batch.Messages), m.limit)
	case m.shape == plain.LongPoll && len(batch.Messages)+len(batch.Resync)+len(batch.End) == 0 && m.now.Before(m.started.Add(m.wait)):
		t.Fatalf("no news after %v", m.now.Sub(m.started))
	}
	for _, each := range batch.Messages {
		if matches(batch.Resync, each.Channel) {
			t.Fatalf("messages of a channel that has lost some: %s", out.Answer.Body)
		}
		if m.got[entry{each.Channel, each.Position}] {
			t.Fatalf("twice in one answer: %s", out.Answer.Body)
		}
		m.got[entry{each.Channel, each.Position}] = true
	}
	m.resync(t, batch.Resync, batch.Cursor)
	m.cursor(t, batch.Cursor)
	if batch.Cursor != shard.Earliest {
		m.orderly(t, out, batch.Cursor)
	}
}

// orderly checks that messages are in order, and none is beyond the cursor.
func (m *model) orderly(t *rapid.T, out *plain.Effects, cursor string) {
	since, err := shard.ParseSince(m.channels, cursor)
	if err != nil {
		t.Fatal(err)
	}
	for e := range m.got {
		if m.start[e] && m.since.At != nil || since.At != nil && e.offset > since.At[shard.Of(e.channel)] {
			t.Fatalf("%v is not before the cursor %v, or it is before the beginning %v: %s", e, since.At, m.since.At, out.Answer.Body)
		}
	}
}

func (m *model) String() string {
	return fmt.Sprintf("logs %v, pushed %v, gone %v, cursors %v", m.logs, m.pushed, m.keep, m.cursors)
}
