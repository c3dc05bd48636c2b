package holder

import (
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/shard"
)

// What edges of the simulation are set to; less than in life, so that it takes
// less.
const (
	simTimeout     = 8 * time.Second // of a held connect
	simMaxInterval = 8 * time.Second
	simGrace       = 3 * time.Second
	simLease       = 3 * time.Second
	simOverdue     = simTimeout + 10*time.Second // when clients give up
	simTimely      = 5 * time.Second             // within which they come back
)

var simChannels = []string{"/a", "/b", "/c/**"}

// simLeave is how long channels wait for who is lost, if less than all.
var simLeave = map[string]time.Duration{"/a": 2 * time.Second, "/c/**": time.Second}

// violation is what a schedule has found.
type violation string

// world is some edges and presence processes, their etcd and network, and
// clients. One thing happens at a time.
type world struct {
	rng    *rand.Rand
	now    time.Duration
	events events
	seq    uint64
	log    *strings.Builder
	calm   bool          // no more faults
	faults [6]int        // how often they happen
	fault  time.Duration // when the last one happened
	still  bool          // no faults in all of the schedule
	lossy  bool          // answers are lost

	etcd      etcd
	edges     []*edgeNode
	holders   []*holderNode
	cuts      map[[2]string]bool
	clients   []*client
	sessions  map[string]*truth
	offset    uint64 // of the one slot
	published []time.Duration
	count     counts
}

type counts struct{ handshakes, answers, claims, takes, records, moves, unknown, lost, again int }

// truth is what the test knows of a session.
type truth struct {
	id      string
	over    bool // disconnected, or expired as it should
	excused bool // its state was destroyed
	homes   map[home.Generation]string
	batches map[uint32]span
	moves   int
}

// span is the content of a batch.
type span struct{ from, upto uint64 }

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (e *events) Len() int { return len(*e) }

func (e *events) Less(i, j int) bool {
	a, b := (*e)[i], (*e)[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (e *events) Swap(i, j int) { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] }

func (e *events) Push(x any) { *e = append(*e, x.(event)) }

func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	(*e)[len(*e)-1] = event{}
	*e = (*e)[:len(*e)-1]
	return last
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, do})
}

// every does something again and again while it returns true.
func (w *world) every(d time.Duration, do func() bool) {
	var again func()
	again = func() {
		if do() {
			w.after(d, again)
		}
	}
	w.after(w.upTo(d), again)
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

// latency is how long a message takes.
func (w *world) latency() time.Duration {
	if !w.calm && !w.still && w.rng.IntN(40) == 0 {
		return w.upTo(1500 * time.Millisecond)
	}
	return time.Millisecond + w.upTo(15*time.Millisecond)
}

func (w *world) clock() time.Time { return time.Unix(1e9, 0).Add(w.now) }

func (w *world) trace(format string, args ...any) {
	if w.log != nil {
		fmt.Fprintf(w.log, "%9.3f "+format+"\n", append([]any{w.now.Seconds()}, args...)...)
	}
}

func (w *world) require(ok bool, format string, args ...any) {
	if !ok {
		panic(violation(fmt.Sprintf("at %v: ", w.now) + fmt.Sprintf(format, args...)))
	}
}

// node is a process.
type node struct {
	w      *world
	name   string
	member string
	life   int
	alive  bool
	cut    bool // from etcd
	view   view
}

// view is what a process knows of the directory.
type view struct {
	edges, holders map[string]bool // members
	rows           map[shard.PresenceShard]shard.Holders
}

// etcd is the truth of the directory.
type etcd struct {
	leases map[string]lease // by name
	rows   map[shard.PresenceShard]shard.Holders
}

type lease struct {
	member string
	until  time.Duration
}

func (w *world) announced(member string) bool {
	name, _, _ := strings.Cut(member, "@")
	return w.etcd.leases[name].member == member
}

func (w *world) nodes() []*node {
	var all []*node
	for _, e := range w.edges {
		all = append(all, &e.node)
	}
	for _, h := range w.holders {
		all = append(all, &h.node)
	}
	return all
}

// renew keeps a process announced.
func (n *node) renew() {
	if n.cut {
		return
	}
	before := n.w.etcd.leases[n.name].member
	n.w.etcd.leases[n.name] = lease{n.member, n.w.now + simLease}
	if before != n.member {
		n.w.changed()
	}
}

// expire ends leases.
func (w *world) expire() {
	over := false
	for name, l := range w.etcd.leases {
		if l.until <= w.now {
			delete(w.etcd.leases, name)
			over = true
		}
	}
	if over {
		w.changed()
	}
}

// changed lets everybody know, some time, what the directory is then.
func (w *world) changed() {
	for _, n := range w.nodes() {
		life := n.life
		w.after(w.latency()+w.upTo(200*time.Millisecond), func() {
			if n.alive && n.life == life && !n.cut {
				n.look()
			}
		})
	}
}

// look takes the directory as it is.
func (n *node) look() {
	n.view = view{edges: map[string]bool{}, holders: map[string]bool{}, rows: map[shard.PresenceShard]shard.Holders{}}
	for name, l := range n.w.etcd.leases {
		if name[0] == 'e' {
			n.view.edges[l.member] = true
		} else {
			n.view.holders[l.member] = true
		}
	}
	maps.Copy(n.view.rows, n.w.etcd.rows)
	for _, e := range n.w.edges {
		if &e.node == n {
			e.see()
		}
	}
	for _, h := range n.w.holders {
		if &h.node == n {
			h.see()
		}
	}
}

// control does the controller's work; at random it moves a shard, too.
func (w *world) control() {
	var there []string
	for _, h := range w.holders {
		if w.announced(h.member) {
			there = append(there, h.member)
		}
	}
	if len(there) == 0 {
		return
	}
	changed := false
	for _, s := range simShards {
		row := w.etcd.rows[s]
		before := row
		if !slices.Contains(there, row.Second) {
			row.Second = ""
		}
		if !slices.Contains(there, row.First) {
			if row.First = row.Second; row.First == "" {
				row.First = there[w.rng.IntN(len(there))]
			}
			row.Second = ""
			row.Epoch++
		} else if !w.calm && !w.still && row.Second != "" && w.rng.IntN(100) < w.faults[5] {
			row.First, row.Second = row.Second, row.First
			row.Epoch++
			w.fault = w.now
		}
		for _, m := range there {
			if row.Second == "" && m != row.First && w.rng.IntN(2) == 0 {
				row.Second = m
			}
		}
		if row != before {
			row = row.Follow(before)
			row.Version++
			w.trace("row %d: %+v", s, row)
			w.etcd.rows[s] = row
			changed = true
		}
	}
	if changed {
		w.changed()
		w.destroyed()
	}
}

var simShards = []shard.PresenceShard{0, 1}

func (w *world) link(a, b string) bool { return a == b || !w.cuts[[2]string{min(a, b), max(a, b)}] }

// call has something done at another process, and what it returns at the
// caller. It fails after a while if there is no answer: then it may have been
// done, or still be.
func (w *world) call(from, to *node, do func() func(), failed func()) {
	const patience = 300 * time.Millisecond
	fromLife, toLife, begun, open := from.life, to.life, w.now, true
	end := func(then func()) {
		if open && from.alive && from.life == fromLife {
			open = false
			then()
		}
	}
	w.after(w.latency(), func() {
		if !w.link(from.name, to.name) {
			w.after(patience, func() { end(failed) })
			return
		}
		if !to.alive || to.life != toLife {
			end(failed)
			return
		}
		answer := do()
		back := w.latency()
		if w.lossy && !w.calm && w.rng.IntN(12) == 0 || w.now+back > begun+patience {
			w.after(max(0, begun+patience-w.now), func() { end(failed) })
			return
		}
		w.after(back, func() {
			if w.link(from.name, to.name) {
				end(answer)
				return
			}
			w.after(patience, func() { end(failed) })
		})
	})
}

// holderOf returns the process that is a member.
func (w *world) holderOf(member string) *holderNode {
	for _, h := range w.holders {
		if h.member == member {
			return h
		}
	}
	return nil
}

func (w *world) edgeOf(member string) *edgeNode {
	for _, e := range w.edges {
		if e.member == member {
			return e
		}
	}
	return nil
}

// disturb makes something go wrong, or well again.
func (w *world) disturb() {
	w.fault = w.now
	sum := 0
	for _, f := range w.faults[:5] {
		sum += f
	}
	kind, at := 0, w.rng.IntN(sum+1)
	for at -= w.faults[0]; at >= 0 && kind < 5; at -= w.faults[kind] {
		kind++
	}
	edge, holder := w.edges[w.rng.IntN(len(w.edges))], w.holders[w.rng.IntN(len(w.holders))]
	switch kind {
	case 0:
		edge.crash(w.rng.IntN(2) == 0)
		w.after(w.upTo(30*time.Second), edge.start)
	case 1:
		holder.crash()
		w.after(w.upTo(15*time.Second), holder.start)
	case 2:
		edge.cutOff(true)
		w.after(w.upTo(50*time.Second), func() { edge.cutOff(false) })
	case 3:
		holder.cutOff(true)
		w.after(w.upTo(20*time.Second), func() { holder.cutOff(false) })
	case 4:
		all := w.nodes()
		a, b := all[w.rng.IntN(len(all))].name, all[w.rng.IntN(len(all))].name
		if a == b {
			return
		}
		key := [2]string{min(a, b), max(a, b)}
		w.cuts[key] = true
		w.trace("%s and %s are parted", a, b)
		w.after(w.upTo(30*time.Second), func() {
			delete(w.cuts, key)
			w.fault = w.now
		})
	}
}

func (n *node) cutOff(cut bool) {
	n.w.trace("%s cut from etcd: %v", n.member, cut)
	n.w.fault = n.w.now
	if n.cut = cut; !cut && n.alive {
		n.renew()
		n.w.changed()
	}
	n.w.destroyed()
}

// exists reports whether somebody has the state of a session who can be asked
// for it.
func (w *world) exists(id string) bool {
	for _, e := range w.edges {
		if e.alive && !e.cut && w.announced(e.member) && e.sessions[id] != nil {
			return true
		}
	}
	row := w.etcd.rows[shard.OfSession(id)]
	for _, h := range w.holders {
		if h.alive && (h.member == row.First || h.member == row.Second) {
			if r, _ := h.real.find(id); r != nil {
				return true
			}
		}
	}
	return false
}

// destroyed notes which sessions nobody has any more, after a crash.
func (w *world) destroyed() {
	for id, t := range w.sessions {
		if !t.excused && !w.exists(id) {
			t.excused = true
		}
	}
}

// publish makes an event for everybody.
func (w *world) publish() {
	w.offset++
	w.published = append(w.published, w.now)
	for _, e := range w.edges {
		if e.alive {
			w.after(w.latency(), e.deliver)
		}
	}
}

// offsetAt is the newest event of some time ago.
func (w *world) offsetAt(ago time.Duration) uint64 {
	n := len(w.published)
	for n > 0 && w.published[n-1] > w.now-ago {
		n--
	}
	return uint64(n)
}

func newWorld(seed uint64, log *strings.Builder) *world {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 1)), log: log, cuts: map[[2]string]bool{}, sessions: map[string]*truth{},
		etcd: etcd{leases: map[string]lease{}, rows: map[shard.PresenceShard]shard.Holders{}},
	}
	for i := range w.faults {
		w.faults[i] = [...]int{0, 0, 1, 2, 4}[w.rng.IntN(5)]
	}
	w.still, w.lossy = w.rng.IntN(8) == 0, w.rng.IntN(2) == 0
	for i := range 2 + w.rng.IntN(3) {
		e := &edgeNode{node: node{w: w, name: fmt.Sprint("e", i)}}
		w.edges = append(w.edges, e)
	}
	for i := range 2 + w.rng.IntN(2) {
		w.holders = append(w.holders, &holderNode{node: node{w: w, name: fmt.Sprint("p", i)}})
	}
	for _, h := range w.holders {
		h.start()
	}
	for _, e := range w.edges {
		e.start()
	}
	w.control()
	return w
}

// run plays the schedule of a seed.
func run(seed uint64, log *strings.Builder) (w *world, err error) {
	defer func() {
		if v := recover(); v != nil {
			found, ok := v.(violation)
			if !ok {
				panic(v)
			}
			err = fmt.Errorf("seed %d: %s", seed, string(found))
		}
	}()
	w = newWorld(seed, log)
	w.every(400*time.Millisecond, func() bool { w.expire(); w.control(); return true })
	w.every(1500*time.Millisecond, func() bool { w.publish(); return true })
	for i := range 3 + w.rng.IntN(5) {
		c := &client{w: w, n: i, style: w.rng.IntN(3)}
		w.clients = append(w.clients, c)
		w.after(time.Second+w.upTo(20*time.Second), c.next)
	}
	stop := 60*time.Second + w.upTo(60*time.Second)
	if !w.still {
		w.every(time.Second+w.upTo(12*time.Second), func() bool {
			if !w.calm {
				w.disturb()
			}
			return !w.calm
		})
	}
	w.until(stop)
	w.heal()
	w.until(w.now + home.Adoptable(simTimeout, 0, simMaxInterval) + install + simMaxInterval + 12*time.Second)
	for _, c := range w.clients {
		c.quiet, c.style = true, 0
	}
	for range 10 { // a session may be about to move
		w.until(w.now + 5*time.Second)
		if err = w.try(w.settled); err == nil {
			return w, nil
		}
	}
	w.settled()
	return w, nil
}

// try returns the violation that something finds.
func (w *world) try(what func()) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case violation:
			err = errors.New(string(v))
		default:
			panic(v)
		}
	}()
	what()
	return nil
}

func (w *world) until(end time.Duration) {
	for len(w.events) > 0 && w.events[0].at <= end {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

// heal ends all faults.
func (w *world) heal() {
	w.trace("heal")
	w.calm = true
	clear(w.cuts)
	for _, n := range w.nodes() {
		if n.cut {
			n.cutOff(false)
		}
	}
	for _, e := range w.edges {
		e.start()
	}
	for _, h := range w.holders {
		h.start()
	}
}

// settled demands that all holders know what is so, and nothing else.
func (w *world) settled() {
	live := map[string]*simSession{}
	for _, e := range w.edges {
		for id, s := range e.sessions {
			if !s.seat.Serves() {
				w.require(!s.seat.Dead(w.clock().Add(-2*time.Second)), "%s still keeps %s, which went", e.member, id)
				continue
			}
			w.require(live[id] == nil, "S1: %s has two homes", id)
			live[id] = s
		}
	}
	for _, c := range w.clients {
		w.require(c.session == "" || c.gone || live[c.session] != nil, "%s is served by nobody", c.session)
	}
	for id, t := range w.sessions {
		w.require(!w.still || t.moves <= 1+int(w.now/time.Minute), "6: %s moved %d times in %v", id, t.moves, w.now)
	}
	for id := range live {
		w.require(!w.sessions[id].over, "S9: %s is over and there", id)
	}
	for _, h := range w.holders {
		want := map[string]map[string]home.Generation{}
		for _, channel := range simChannels {
			want[channel] = map[string]home.Generation{}
		}
		records := 0
		for id, s := range live {
			row := w.etcd.rows[shard.OfSession(id)]
			if row.First != h.member && row.Second != h.member {
				continue
			}
			records++
			r, _ := h.real.find(id)
			w.require(r != nil, "%s does not know %s", h.member, id)
			w.require(r.generation == s.seat.Generation() && r.home.member == s.edge.member && r.home.lost.IsZero() && r.claim == nil,
				"%s knows %s at %s in %v, which is at %s in %v", h.member, id, r.home.member, r.generation, s.edge.member, s.seat.Generation())
			if row.First == h.member {
				for _, channel := range s.channels {
					want[channel][id] = s.seat.Generation()
				}
			}
		}
		w.require(h.real.Sessions() == records, "%s has %d records, there are %d sessions", h.member, h.real.Sessions(), records)
		for _, channel := range simChannels {
			got := map[string]home.Generation{}
			for _, m := range h.real.Members(channel, 1000) {
				got[m.Session] = m.Generation
			}
			w.require(fmt.Sprint(got) == fmt.Sprint(want[channel]), "roster of %s at %s is %v, want %v", channel, h.member, got, want[channel])
		}
		h.follow()
		h.agree()
	}
}
