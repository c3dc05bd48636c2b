package replica

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// options are what a schedule is about.
type options struct {
	nodes, copies, slots, minInSync int

	steps, publishes int
	keep             uint64 // committed entries that are replicated
	batch, window    int    // as in Config
	warm             bool   // begins when all is well
	script           int    // that is played then, if there is one of that number
	disk             bool
	real             bool  // logs are slots, not only models of them
	chaos            bool  // messages are lost, repeated and overtake each other on a stream
	unclean          int64 // after how long a silent log may be given up; 0: never

	// How often things happen; every schedule has other faults.
	weights [9]int
	faults  [11]int
}

// world is a cluster, its etcd, its network and its clients.
type world struct {
	rng  *rand.Rand
	opt  options
	now  int64  // nanoseconds
	calm bool   // no more faults
	heir string // whom the controllers promote, if they may

	nodes     []*node
	streams   []*stream
	streamIDs int
	old       []echo
	blocks    [][]bool
	logs      map[string][]*simLog // by member, of the dead, too
	etcd      etcd
	control   []*controller
	clients   []*client
	publishes []*publish
	books     []*ledger
	histories map[thread][]operation

	log   *strings.Builder // of a schedule that is shown
	count counts
}

// counts say what a schedule has seen.
type counts struct{ leads, begins, writes, changes, reads, relays, marks int }

func newWorld(seed uint64, log *strings.Builder) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: 1e15, log: log, histories: map[thread][]operation{}, logs: map[string][]*simLog{}}
	r := w.rng
	w.opt = options{
		nodes:     2 + r.IntN(4),
		copies:    1 + r.IntN(3),
		slots:     1,
		minInSync: 1,
		steps:     250 + r.IntN(100),
		publishes: 2 + r.IntN(9),
		keep:      uint64(r.IntN(6)),
		batch:     1 + r.IntN(300),
		window:    1 + r.IntN(700),
		warm:      r.IntN(3) > 0,
		disk:      r.IntN(4) == 0,
		chaos:     r.IntN(5) == 0,
	}
	w.opt.real = !w.opt.disk && r.IntN(4) == 0
	w.opt.weights = [...]int{52, 14, 4, 10, 6, 6, 4, 0, 1 + r.IntN(8)}
	if w.opt.chaos {
		w.opt.weights[7] = r.IntN(4)
	}
	for i := range w.opt.faults {
		w.opt.faults[i] = [...]int{0, 0, 1, 2, 5}[r.IntN(5)]
	}
	if w.opt.script = r.IntN(4 * scripts); w.opt.script < scripts {
		w.opt.chaos = w.opt.chaos || w.opt.script == 4
		w.opt.disk = w.opt.disk || w.opt.script == 6
		w.opt.real = w.opt.real && !w.opt.disk
		w.opt.warm, w.opt.nodes, w.opt.copies = true, max(w.opt.nodes, 3), max(w.opt.copies, 2+r.IntN(2))
	}
	w.opt.copies = min(w.opt.copies, w.opt.nodes)
	if r.IntN(10) == 0 {
		w.opt.slots = 2
	}
	if w.opt.copies > 1 {
		w.opt.minInSync += r.IntN(2)
	}
	if !w.opt.disk && r.IntN(2) == 0 {
		w.opt.unclean = 2000 * millisecond
	}
	w.trace("%+v", w.opt)
	for range w.opt.slots {
		book := newLedger(func() int64 { return w.now })
		book.least = w.opt.minInSync
		book.real = w.opt.real
		w.books = append(w.books, book)
	}
	w.etcd.keys = make([]key, w.opt.nodes)
	for i := range w.opt.nodes {
		w.nodes = append(w.nodes, &node{w: w, index: i})
		w.blocks = append(w.blocks, make([]bool, w.opt.nodes))
	}
	for _, n := range w.nodes {
		n.start()
	}
	for range 2 {
		w.control = append(w.control, &controller{w: w})
	}
	for i := range 2 + r.IntN(6) {
		w.clients = append(w.clients, &client{w: w, id: i, slot: r.IntN(w.opt.slots)})
	}
	return w
}

func (w *world) trace(format string, args ...any) {
	if w.log != nil {
		fmt.Fprintf(w.log, "%d "+format+"\n", append([]any{w.now / 1000 % 1e9}, args...)...)
	}
}

func (w *world) at(ns int64) time.Time { return time.Unix(0, ns) }

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
	if w.opt.warm {
		w.calm = true
		w.settle()
		w.calm = false
		w.script(w.opt.script)
	}
	for range w.opt.steps {
		w.now += 1000
		w.step()
		w.check()
	}
	w.heal()
	w.settle()
	w.linearizable()
	return w, nil
}

// step lets one thing happen.
func (w *world) step() {
	switch w.pick(w.opt.weights[:]) {
	case 0:
		w.deliverSome(1 + w.rng.IntN(4))
		if w.opt.disk && w.rng.IntN(4) == 0 {
			w.nodes[w.rng.IntN(len(w.nodes))].sync()
		}
	case 1:
		w.clients[w.rng.IntN(len(w.clients))].step()
	case 2:
		w.clients[w.rng.IntN(len(w.clients))].read()
	case 3:
		w.pass(int64(1+w.rng.IntN(60)) * millisecond)
	case 4:
		w.stepWrite()
	case 5:
		w.watch(w.nodes[w.rng.IntN(len(w.nodes))])
	case 6:
		c := w.control[w.rng.IntN(len(w.control))]
		if w.rng.IntN(3) > 0 {
			c.look()
		}
		c.decide(w.rng.IntN(len(w.books)))
		if w.rng.IntN(2) == 0 {
			c.write()
		}
	case 7:
		w.repeat()
	default:
		w.disturb()
	}
}

// pick returns an index, each as often as its weight says.
func (w *world) pick(weights []int) int {
	sum := 0
	for _, n := range weights {
		sum += n
	}
	at := w.rng.IntN(max(sum, 1))
	for i, n := range weights {
		if at -= n; at < 0 {
			return i
		}
	}
	return 0
}

// deliverSome hands over frames, beginning anywhere.
func (w *world) deliverSome(frames int) {
	if len(w.streams) == 0 {
		w.connectSome()
		return
	}
	at := w.rng.IntN(2 * len(w.streams))
	for range 2 * len(w.streams) {
		s := w.streams[at/2%len(w.streams)]
		for frames > 0 && w.deliver(s, s.ends[at%2]) {
			frames--
		}
		if frames == 0 {
			return
		}
		at++
	}
	w.connectSome()
}

func (w *world) connectSome() {
	for i, a := range w.nodes {
		for _, b := range w.nodes[i+1:] {
			if w.calm || w.rng.IntN(2) == 0 {
				w.connect(a, b)
			}
		}
	}
}

// pass lets time pass.
func (w *world) pass(d int64) {
	w.now += d
	w.sweep()
	for _, n := range w.nodes {
		if n.runs() && n.tick <= w.now {
			n.step()
		}
		if n.alive && w.opt.disk && w.rng.IntN(2) == 0 {
			n.sync()
		}
	}
	w.connectSome()
}

func (n *node) sync() {
	if !n.runs() {
		return
	}
	for _, p := range n.places {
		p.flush()
		p.log.sync()
		p.rep.Synced(n.w.clock(), &p.out)
		p.perform()
	}
}

// disturb makes something go wrong, or well again.
func (w *world) disturb() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if row := w.books[0].row(); row.Version > 0 && w.rng.IntN(3) == 0 {
		n = w.nodes[nameOf(row.Primary)]
	}
	switch w.pick(w.opt.faults[:]) {
	case 0:
		if n.alive {
			n.crash()
		} else {
			n.start()
		}
	case 1:
		if n.paused {
			w.wake(n)
		} else {
			n.paused = n.alive
		}
		w.trace("%s paused: %v", n.member, n.paused)
	case 2:
		if len(w.streams) > 0 {
			w.breakStream(w.streams[w.rng.IntN(len(w.streams))])
		}
	case 3:
		w.partition(n.index, w.rng.IntN(len(w.nodes)))
	case 4:
		n.cut = !n.cut
		w.trace("%s cut from etcd: %v", n.member, n.cut)
	case 5:
		w.outage()
	case 6: // several are cut from etcd, at about the same time
		for _, n := range w.nodes {
			n.cut = w.rng.IntN(2) == 0
			w.trace("%s cut from etcd: %v", n.member, n.cut)
			if n.cut {
				w.pass(int64(1+w.rng.IntN(300)) * millisecond)
			}
		}
	case 7: // everybody sleeps
		w.pass(int64(1+w.rng.IntN(4000)) * millisecond)
	case 8, 9:
		w.script(w.rng.IntN(scripts))
	default:
		for range w.rng.IntN(40) {
			w.pass(tickEvery)
			w.deliverSome(20)
		}
	}
	for _, n := range w.nodes {
		if !n.alive && w.rng.IntN(3) == 0 {
			n.start()
		}
	}
}

// wake lets a process go on: it reads what came meanwhile before its clock.
func (w *world) wake(n *node) {
	n.paused = false
	w.drain(n)
}

// drain hands over all that is on its way to a process.
func (w *world) drain(n *node) {
	for _, s := range slices.Clone(w.streams) {
		for _, e := range s.ends {
			for e.n == n && w.deliver(s, e) {
				continue
			}
		}
	}
}

func (w *world) partition(a, b int) {
	if w.blocks[a][b] = !w.blocks[a][b]; !w.blocks[a][b] || a == b {
		return
	}
	for _, s := range w.streams {
		if s.between(w.nodes[a], w.nodes[b]) && w.rng.IntN(2) == 0 {
			w.breakStream(s)
		}
	}
}

// outage ends or begins an outage of etcd. No lease runs out meanwhile; after
// it all may run out at once, or go on.
func (w *world) outage() {
	if w.etcd.down = !w.etcd.down; w.etcd.down {
		w.etcd.since = w.now
		return
	}
	if w.rng.IntN(2) == 0 {
		for i := range w.etcd.keys {
			if k := &w.etcd.keys[i]; k.expires > w.etcd.since {
				k.expires = max(k.expires, w.now+leaseTTL)
			}
		}
	}
}

// check looks at what must hold at every moment.
func (w *world) check() {
	for _, n := range w.nodes {
		if !n.runs() || w.opt.chaos {
			continue
		}
		for _, p := range n.places { // R14
			if asOf, ok := p.rep.AsOf(w.clock()); ok {
				p.book.fresh(p.log, asOf.UnixNano())
				if p.relaying && p.book.row().Term == p.rep.term {
					w.count.marks++
				}
			}
		}
	}
	for _, n := range w.nodes {
		for _, p := range n.places { // R10
			p.book.require(!n.alive || !p.relaying || p.relayed == p.log.commit,
				"R10: %s has committed %d, its followers were told of %d", n.member, p.log.commit, p.relayed)
		}
	}
	for slot, book := range w.books {
		row := book.row()
		if row.Version == 0 {
			continue
		}
		for _, m := range row.InSync { // R6
			n := w.nodes[nameOf(m)]
			if n.member != m || len(n.places) == 0 {
				continue
			}
			log := n.places[slot].log
			book.require(book.holds(row.Base, &log.image), "R6: %s is in the set %v without all that is committed", m, row.InSync)
		}
		n := w.nodes[nameOf(row.Primary)]
		if n.member != row.Primary || !n.alive {
			continue
		}
		if rep := n.places[slot].rep; rep.lead != nil && rep.term == row.Term { // R2
			for _, m := range row.InSync {
				p := rep.peer(m)
				book.require(m == row.Primary || p != nil && p.waits, "R2: %s does not wait for %s of %v", row.Primary, m, row.InSync)
			}
		}
	}
}

// checkBegin checks that a log is given up only if it is lost (R15).
func (w *world) checkBegin(x *change) {
	book := w.books[x.slot]
	old := book.row()
	if x.row.Version != old.Version || x.row.Base == old.Base || old.Version == 0 {
		return
	}
	end := NoPin
	for _, m := range old.InSync {
		book.require(w.opt.unclean > 0 || w.lost(m), "R15: the slot begins anew though %s may hold its log", m)
		end = min(end, w.logs[m][x.slot].end())
	}
	book.given[old.Base] = given{old.InSync, end}
}

// heal ends all faults.
func (w *world) heal() {
	w.trace("heal")
	w.calm = true
	if w.etcd.down {
		w.outage()
	}
	for i, n := range w.nodes {
		clear(w.blocks[i])
		n.cut = false
		if !n.alive {
			n.start()
		}
		if n.paused {
			w.wake(n)
		}
	}
	w.control = w.control[:1]
	w.control[0].changes = nil
}

// settle goes on until all is well, and demands that it becomes so.
func (w *world) settle() {
	var why string
	for range 100 {
		if why = w.unsettled(); why == "" {
			w.books[0].require(true, "")
			return
		}
		w.pass(tickEvery)
		for w.deliverAll() {
			w.check()
		}
		for range 2 * len(w.etcd.writes) {
			w.stepWrite()
		}
		for _, n := range w.nodes {
			w.watch(n)
		}
		for w.deliverAll() {
			w.check()
		}
		for slot := range w.books {
			w.control[0].look()
			w.control[0].decide(slot)
			w.control[0].write()
		}
		for _, c := range w.clients {
			c.step()
			c.read()
		}
		w.check()
	}
	w.books[0].require(false, "it does not settle: %s", why)
}

func (w *world) deliverAll() bool {
	any := false
	for i := range w.streams {
		for _, e := range w.streams[i].ends {
			for w.deliver(w.streams[i], e) {
				any = true
			}
		}
	}
	return any
}

// unsettled says what is not as it should be.
func (w *world) unsettled() string {
	for slot, book := range w.books {
		row := book.row()
		want := min(w.opt.copies, len(w.nodes))
		switch {
		case row.Version == 0:
			return "no row"
		case len(row.Replicas) != want || len(row.InSync) != want || row.Replicas[0] != row.Primary:
			return fmt.Sprintf("row %+v", row)
		}
		for _, m := range row.InSync {
			if !slices.Contains(row.Replicas, m) {
				return fmt.Sprintf("row %+v", row)
			}
		}
		p := w.nodes[nameOf(row.Primary)].places[slot]
		switch {
		case p.n.member != row.Primary || !p.serving || p.rep.Admit(w.clock()) != nil:
			return fmt.Sprintf("%s does not serve: %v", p.n.member, p.rep.Admit(w.clock()))
		case p.log.commit != p.log.end():
			return fmt.Sprintf("%s has committed %d of %d", p.n.member, p.log.commit, p.log.end())
		}
		for _, m := range row.InSync {
			if why := w.nodes[nameOf(m)].places[slot].unfollowed(); why != "" && !w.opt.chaos {
				return why
			}
			if log := w.nodes[nameOf(m)].places[slot].log; log.commit != p.log.commit && !w.opt.chaos {
				return fmt.Sprintf("%s has committed %d of %d", m, log.commit, p.log.commit)
			}
		}
		for _, n := range w.nodes {
			if !slices.Contains(row.InSync, n.member) && n.places[slot].log.base != 0 {
				return n.member + " keeps a log nobody needs"
			}
		}
		for key, a := range book.acked {
			inc := book.of(a.base)
			book.require(inc.keys[key] == a.offset, "%s was acknowledged at %d and is lost", key, a.offset)
		}
	}
	for _, c := range w.clients {
		if c.op != nil {
			return c.op.key + " is not acknowledged"
		}
	}
	return ""
}
