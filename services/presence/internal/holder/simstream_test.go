package holder

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// simStream is an edge's report stream to one presence process.
type simStream struct {
	e      *edgeNode
	member string
	pace   time.Duration
	to     *holderNode
	life   int
	feed   *Feed // nil: not open
	arrive time.Duration
	round  int // of feeds

	covers map[shard.PresenceShard]bool
	sync   map[shard.PresenceShard]bool // what is to be sent whole
	dirty  map[string]ending
	vector uint64
	flying bool // a flush is due
}

// ending is the end of a session; the zero ending: it is there.
type ending struct {
	reason string
	g      home.Generation
}

// cursor is what a record says of positions.
type cursor struct {
	batch     uint32
	confirmed uint64
}

func encode(c cursor, explicit bool) []byte {
	b := binary.BigEndian.AppendUint32(nil, c.batch)
	if explicit {
		b = binary.BigEndian.AppendUint64(b, c.confirmed)
	}
	return b
}

func decode(b []byte) (c cursor, explicit bool) {
	c.batch = binary.BigEndian.Uint32(b)
	if explicit = len(b) > 4; explicit {
		c.confirmed = binary.BigEndian.Uint64(b[4:])
	}
	return c, explicit
}

func (st *simStream) name() string {
	name, _, _ := strings.Cut(st.member, "@")
	return name
}

// runs reports whether it is still the stream of its edge to that holder.
func (st *simStream) runs(round int) bool {
	return st.e.alive && st.e.streams[st.member] == st && st.round == round
}

// breaks ends the stream as the edge sees it; the other end may notice later.
func (st *simStream) breaks() {
	feed, to, life := st.feed, st.to, st.life
	st.feed = nil
	st.round++
	if feed != nil {
		st.e.w.after(st.e.w.upTo(2*time.Second), func() {
			if to.alive && to.life == life {
				feed.End()
			}
		})
	}
}

// open begins the stream, again and again until it can.
func (st *simStream) open() {
	st.to = st.e.w.holderOf(st.member)
	st.round++
	round := st.round
	again := func() {
		st.e.w.after(100*time.Millisecond+st.e.w.upTo(300*time.Millisecond), func() {
			if st.runs(round) {
				st.open()
			}
		})
	}
	if st.to == nil {
		again()
		return
	}
	to, life, edge := st.to, st.to.life, st.e.member
	st.e.w.call(&st.e.node, &to.node, func() func() {
		feed, err := to.real.Attach(edge, func() { to.w.after(0, to.drain) })
		if err != nil {
			return again
		}
		return func() {
			if st.runs(round) {
				st.feed, st.life, st.arrive = feed, life, 0
				st.covers, st.sync, st.dirty, st.vector = map[shard.PresenceShard]bool{}, map[shard.PresenceShard]bool{}, map[string]ending{}, 0
				st.cover()
			}
		}
	}, again)
}

// cover takes from the edge's view which shards the process holds.
func (st *simStream) cover() {
	if st.feed == nil {
		return
	}
	for s, row := range st.e.view.rows {
		holds := row.First == st.member || row.Second == st.member
		if holds && !st.covers[s] {
			st.sync[s] = true
		}
		if !holds {
			delete(st.sync, s)
		}
		st.covers[s] = holds
	}
	st.soon()
}

func (st *simStream) mark(id string, end ending) {
	if st.feed == nil {
		return
	}
	if was := st.dirty[id]; was.reason == "" || end.g.After(was.g) || end.reason == "" && st.e.sessions[id] != nil {
		st.dirty[id] = end
		st.soon()
	}
}

// soon flushes a little later.
func (st *simStream) soon() {
	if st.flying {
		return
	}
	st.flying = true
	st.e.w.after(100*time.Millisecond, func() {
		st.flying = false
		if st.e.alive && st.feed != nil {
			st.flush(false)
		}
	})
}

// flush sends what is to be sent, and the vector behind it.
func (st *simStream) flush(vector bool) {
	w := st.e.w
	var ops []func(f *Feed)
	var offsets []uint64
	if vector {
		upto := w.offsetAt(3 * time.Second)
		offsets = []uint64{upto}
		for id, s := range st.e.sessions {
			if s.confirmed < upto {
				st.dirty[id] = ending{}
			}
		}
		defer func() { st.vector = upto }()
	}
	for _, s := range slices.Sorted(maps.Keys(st.sync)) {
		ops = append(ops, func(f *Feed) { st.to.begin(f, s) })
		for id := range st.e.sessions {
			if shard.OfSession(id) == s {
				st.dirty[id] = ending{}
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(st.dirty)) {
		if !st.covers[shard.OfSession(id)] {
			continue
		}
		end := st.dirty[id]
		if s := st.e.sessions[id]; s != nil && end.reason == "" {
			state := st.state(s, offsets)
			ops = append(ops, func(f *Feed) { st.to.present(f, id, state) })
		} else if end.reason != "" {
			ops = append(ops, func(f *Feed) { st.to.gone(f, id, end) })
		}
	}
	for _, s := range slices.Sorted(maps.Keys(st.sync)) {
		ops = append(ops, func(f *Feed) { st.to.synced2(f, s) })
	}
	if vector {
		ops = append(ops, func(f *Feed) { f.Vector(offsets) })
	}
	clear(st.dirty)
	clear(st.sync)
	for len(ops) > 0 { // in batches
		n := 1 + st.e.w.rng.IntN(2*len(ops))
		st.send(ops[:min(n, len(ops))])
		ops = ops[min(n, len(ops)):]
	}
}

// state is what is said of a session before a new vector, if one follows.
func (st *simStream) state(s *simSession, offsets []uint64) State {
	explicit := !s.seat.Serves() || st.vector == 0 || s.confirmed < st.vector || offsets != nil && s.confirmed < offsets[0]
	return State{
		Transport: "long-polling", Since: time.Unix(1, 0), Channels: slices.Clone(s.channels), Generation: s.seat.Generation(),
		Adoptable: home.Adoptable(simTimeout, 0, simMaxInterval), Resume: encode(cursor{s.batch, s.confirmed}, explicit),
	}
}

// send sends a batch; batches arrive in order, and old ones of a broken stream
// may still arrive.
func (st *simStream) send(ops []func(f *Feed)) {
	w, feed, to, life := st.e.w, st.feed, st.to, st.life
	from := st.e.name
	st.arrive = max(st.arrive+1, w.now+w.latency())
	arrive := func() {
		if !to.alive || to.life != life {
			return
		}
		if !w.link(from, to.name) {
			if st.feed == feed { // it stays in the sender's buffers
				w.after(time.Second, func() { st.e.broken(to.member) })
			}
			return
		}
		for _, op := range ops {
			op(feed)
		}
		to.drain()
	}
	w.after(st.arrive-w.now, arrive)
}

// vectors sends the vector to all.
func (e *edgeNode) vectors() {
	for _, st := range e.all() {
		if st.feed != nil {
			st.flush(true)
		}
	}
}

func (h *holderNode) begin(f *Feed, s shard.PresenceShard) {
	f.Begin(s)
	if f.Current() {
		h.begun[fmt.Sprint(f.edge.member, s)] = h.w.now
	}
}

func (h *holderNode) synced2(f *Feed, s shard.PresenceShard) {
	f.Sync(s, h.w.clock())
	key := fmt.Sprint(f.edge.member, s)
	since, holds := h.since[s]
	if f.Current() && holds && h.begun[key] >= since {
		h.synced[key] = h.w.now
	}
	h.follow()
}

func (h *holderNode) present(f *Feed, id string, st State) {
	if err := f.Present(id, st, h.w.clock()); err != nil {
		panic(err)
	}
	h.follow()
	if r, _ := h.real.find(id); r != nil {
		h.heard[id] = true
		h.checkOne(r)
	}
}

func (h *holderNode) gone(f *Feed, id string, end ending) {
	f.Gone(id, end.g, end.reason, h.w.clock())
	h.follow()
}

// drain sends what edges are to be told.
func (h *holderNode) drain() {
	if !h.alive {
		return
	}
	for _, e := range h.w.edges {
		st := e.streams[h.member]
		if !e.alive || st == nil || st.feed == nil || st.life != h.life {
			continue
		}
		feed, round, life := st.feed, st.round, e.life
		if !feed.Current() {
			h.w.after(h.w.latency(), func() {
				if e.life == life && st.runs(round) {
					st.breaks()
					st.open()
				}
			})
			continue
		}
		refused, wanted := feed.Answers()
		if len(refused)+len(wanted) == 0 {
			continue
		}
		h.w.after(h.w.latency(), func() {
			if e.life != life || !st.runs(round) {
				return
			}
			if !h.w.link(h.name, e.name) {
				e.broken(h.member)
				return
			}
			for _, x := range refused {
				e.superseded(x)
			}
			for _, s := range wanted {
				if st.covers[s] {
					st.sync[s] = true
				}
			}
			st.soon()
		})
	}
}
