package replica

import "slices"

// The faults here are made of several that must come together, as they hardly
// ever do by chance. Each does as much of its part as the moment allows; what
// the controller does meanwhile is up to chance.

const scripts = 8

// script plays one of them.
func (w *world) script(number int) {
	switch number {
	case 0:
		w.promoteInVain()
	case 1:
		w.removeInVain()
	case 2:
		w.promoteBehind()
	case 3:
		w.acknowledgeLate()
	case 4:
		w.leaveAndReturn()
	case 5:
		w.desireAnother()
	case 6:
		w.syncApart()
	case 7:
		w.meetAgain()
	}
}

// linger lets time pass as if all was well but for the faults there are, and as
// if nobody heard of any row.
func (w *world) linger(rounds int) {
	for range rounds {
		w.pass(tickEvery)
		w.deliverSome(20)
		w.control[0].look()
		w.control[0].decide(0)
		w.control[0].write()
		w.check()
	}
}

// work lets time pass as if all was well but for the faults there are.
func (w *world) work(rounds int) {
	for range rounds {
		w.linger(1)
		w.stepWrite()
		for _, n := range w.nodes {
			w.watch(n)
		}
		w.check()
	}
}

// publish has clients publish at a node.
func (w *world) publish(n *node, count int) {
	for range count {
		op := w.clients[w.rng.IntN(len(w.clients))].next(0)
		if op.slot == 0 && n.runs() {
			n.places[0].publish(op)
		}
	}
}

// read has clients read.
func (w *world) read() {
	for _, c := range w.clients {
		c.read()
	}
}

// part keeps what is on its way between two nodes, until they meet again.
func (w *world) part(a, b *node, apart bool) {
	w.blocks[a.index][b.index], w.blocks[b.index][a.index] = apart, false
	w.trace("%s and %s parted: %v", a.member, b.member, apart)
}

// detach cuts a primary from etcd until there is another one.
func (w *world) detach(n *node) {
	n.cut = true
	w.trace("%s cut from etcd", n.member)
	w.succeed()
}

// succeed waits until there is another primary.
func (w *world) succeed() {
	term := w.books[0].row().Term
	w.until(w.linger, func() bool { return w.books[0].row().Term > term })
}

// until plays rounds until something is so, or for long enough.
func (w *world) until(play func(rounds int), done func() bool) {
	for range 30 {
		if play(1); done() {
			return
		}
	}
}

// set returns the nodes of the primary and of the others of its set, in any
// order; nobody if there are fewer than so many or one of them is not there.
func (w *world) set(members int) []*node {
	row := w.books[0].row()
	if len(row.InSync) < members {
		return nil
	}
	nodes := []*node{w.nodes[nameOf(row.Primary)]}
	for _, i := range w.rng.Perm(len(row.InSync)) {
		if m := row.InSync[i]; m != row.Primary {
			nodes = append(nodes, w.nodes[nameOf(m)])
		}
	}
	for _, n := range nodes {
		if !n.runs() || !slices.Contains(row.InSync, n.member) {
			return nil
		}
	}
	return nodes
}

// promoteInVain cuts a primary from etcd, and the next one before it hears that
// it is.
func (w *world) promoteInVain() {
	for range 2 {
		if row := w.books[0].row(); row.Version > 0 {
			w.detach(w.nodes[nameOf(row.Primary)])
		}
	}
	w.linger(w.rng.IntN(40))
}

// removeInVain parts a primary from a backup while a publish is on its way, and
// from etcd before it hears that the backup is removed.
func (w *world) removeInVain() {
	set := w.set(2)
	if set == nil {
		return
	}
	a, b := set[0], set[1]
	w.part(a, b, true)
	w.publish(a, 1)
	for range 2 * patience {
		w.linger(1)
		for _, r := range w.etcd.writes {
			if !r.arrived {
				w.arrive(r)
				a.cut = true
				w.trace("%s cut from etcd", a.member)
			}
		}
	}
	w.linger(w.rng.IntN(40))
	w.part(a, b, false)
}

// promoteBehind has a member lead that has heard of few commits and cannot make
// any, since it is parted from another, while it is to add a third.
func (w *world) promoteBehind() {
	set := w.set(3)
	if set == nil {
		return
	}
	w.part(set[1], set[2], true)
	w.publish(set[0], 2+w.rng.IntN(4))
	for _, n := range []*node{set[1], set[2], set[0]} {
		w.drain(n)
	}
	w.read()
	set[0].crash()
	set[0].start()
	w.succeed()
	for range 60 {
		w.read()
		w.deliverSome(1)
		for range w.etcd.writes {
			w.stepWrite()
		}
		w.check()
		if w.rng.IntN(4) == 0 {
			w.work(1)
		}
	}
	w.part(set[1], set[2], false)
}

// acknowledgeLate has what a backup acknowledged reach the primary in a later
// term of its own, after another led: their stream stalls meanwhile.
func (w *world) acknowledgeLate() {
	set := w.set(3)
	if set == nil {
		return
	}
	a, b, c := set[0], set[1], set[2]
	w.part(a, c, true)
	w.publish(a, 2+w.rng.IntN(4))
	w.drain(b)
	w.part(a, b, true)
	w.heir = c.member
	w.detach(a)
	a.cut = false
	w.part(a, c, false)
	w.until(w.work, func() bool { return slices.Contains(w.books[0].row().InSync, a.member) })
	w.part(b, c, true)
	w.publish(c, w.rng.IntN(2))
	w.heir = a.member
	w.detach(c)
	w.until(w.work, func() bool { return a.places[0].serving })
	w.publish(a, 1+w.rng.IntN(4))
	w.part(a, b, false)
	w.drain(a)
	w.check()
	w.part(b, c, false)
	w.heir, c.cut = "", false
}

// leaveAndReturn has a member drop its log, when nobody counts on it any more,
// and be desired again, while what it acknowledged before comes once more.
func (w *world) leaveAndReturn() {
	set := w.set(2)
	if set == nil {
		return
	}
	a, b, c := set[0], set[1], w.outsider(set)
	if c == nil {
		return
	}
	w.publish(a, 2+w.rng.IntN(4))
	w.drain(b)
	w.until(func(int) { w.desire(a, c); w.work(1) }, func() bool { return b.places[0].log.base == 0 })
	w.desire(a, b)
	for range 30 {
		w.repeat()
		w.deliverSome(1)
		w.watch(a)
		w.stepWrite()
		w.check()
	}
	if w.opt.disk { // and forget that it was
		w.until(w.work, func() bool { return slices.Contains(w.books[0].row().InSync, b.member) })
		b.crash()
		b.start()
		for range 5 {
			w.watch(b)
			w.pass(tickEvery)
		}
	}
}

// desireAnother has another primary desired while one hands over to the one that
// was desired before.
func (w *world) desireAnother() {
	set := w.set(2)
	if set == nil {
		return
	}
	a, b, c := set[0], set[1], w.outsider(set)
	if c == nil {
		return
	}
	w.part(a, b, true)
	w.publish(a, 1)
	w.desire(b, a)
	w.catchUp(a)
	w.desire(c, a)
	w.catchUp(a)
	w.part(a, b, false)
	w.drain(b)
	w.drain(a)
	w.work(w.rng.IntN(10))
}

// syncApart has a member sync entries that its next primary lacks, while the two
// find out.
func (w *world) syncApart() {
	set := w.set(2)
	if set == nil {
		return
	}
	a, b := set[0], set[1]
	w.part(a, b, true)
	w.publish(a, 2+w.rng.IntN(4))
	a.sync()
	w.heir = b.member
	w.detach(a)
	w.until(w.work, func() bool { return b.places[0].rep.lead != nil })
	w.publish(b, 1+w.rng.IntN(2))
	b.sync()
	w.heir, a.cut = "", false
	a.renew()
	w.part(a, b, false)
	for range 4 {
		w.drain(a)
		a.sync()
		w.drain(b)
		w.stepWrite()
		w.check()
	}
}

// meetAgain has a primary that was replaced meet the next one.
func (w *world) meetAgain() {
	set := w.set(2)
	if set == nil {
		return
	}
	a, b := set[0], set[1]
	w.part(a, b, true)
	for _, s := range w.streams {
		if s.between(a, b) {
			w.breakStream(s)
		}
	}
	w.heir = b.member
	w.detach(a)
	w.until(w.work, func() bool { return b.places[0].serving })
	w.publish(b, 1)
	w.part(a, b, false)
	for range 30 {
		w.deliverSome(1)
		w.check()
	}
	w.heir, a.cut = "", false
}

// outsider is a node not among those given, or nil.
func (w *world) outsider(nodes []*node) *node {
	for _, i := range w.rng.Perm(len(w.nodes)) {
		if n := w.nodes[i]; n.runs() && !slices.Contains(nodes, n) {
			return n
		}
	}
	return nil
}

// catchUp shows a node all rows there are, if it reaches etcd.
func (w *world) catchUp(n *node) {
	for range 5 {
		w.watch(n)
	}
}

// desire has nodes hold the first slot.
func (w *world) desire(nodes ...*node) {
	row := w.books[0].row()
	row.Replicas = nil
	for _, n := range nodes {
		row.Replicas = append(row.Replicas, n.member)
	}
	if !slices.Equal(row.Replicas, w.books[0].row().Replicas) {
		w.swap(0, row)
	}
}
