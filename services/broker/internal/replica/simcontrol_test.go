package replica

import (
	"slices"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// controller decides who leads, and who should hold what. There may be several,
// and what they know may be old; only the conditions of their writes are judged
// at the time of the write.
type controller struct {
	w       *world
	rows    []shard.Row
	keys    []key
	changes []*change // on their way
}

// change is a row to write unless a member is announced.
type change struct {
	slot   int
	row    shard.Row
	absent []string
}

// look renews what the controller knows.
func (c *controller) look() {
	if c.w.etcd.down {
		return
	}
	c.rows = c.rows[:0]
	for _, b := range c.w.books {
		c.rows = append(c.rows, b.row())
	}
	c.keys = slices.Clone(c.w.etcd.keys)
}

func (c *controller) present(member string) bool {
	return slices.ContainsFunc(c.keys, func(k key) bool { return k.member == member && k.expires > c.w.now })
}

// lost reports whether the member's log is known to be gone.
func (c *controller) lost(member string) bool {
	k := c.keys[nameOf(member)]
	return k.member != "" && k.member != member
}

// members are those announced, in a random order.
func (c *controller) members() []string {
	var members []string
	for _, k := range c.keys {
		if k.expires > c.w.now {
			members = append(members, k.member)
		}
	}
	c.w.rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return members
}

func (c *controller) decide(slot int) {
	if len(c.rows) == 0 || len(c.changes) > 2 {
		return
	}
	row := c.rows[slot]
	row.InSync, row.Replicas = slices.Clone(row.InSync), slices.Clone(row.Replicas)
	members := c.members()
	switch {
	case len(members) == 0:
	case row.Version == 0:
		c.change(slot, c.begin(row, members), nil)
	case !c.present(row.Primary):
		c.replace(slot, row, members)
	default:
		if want := c.desired(row, members); !slices.Equal(want, row.Replicas) {
			row.Replicas = want
			c.change(slot, row, nil)
		}
	}
}

// begin is the row of a new incarnation.
func (c *controller) begin(row shard.Row, members []string) shard.Row {
	row.Term++
	row.Base += 1 << 10
	row.Primary = members[0]
	row.UncleanAfter = 0
	row.InSync = []string{row.Primary}
	row.Replicas = members[:min(len(members), c.w.opt.copies)]
	return row
}

// replace finds a slot whose primary is gone another one.
func (c *controller) replace(slot int, row shard.Row, members []string) {
	heirs := slices.DeleteFunc(slices.Clone(row.InSync), func(m string) bool { return !c.present(m) })
	gone := slices.DeleteFunc(slices.Clone(row.InSync), c.present)
	if len(heirs) > 0 {
		row.Term++
		row.InSync, row.UncleanAfter = heirs, 0
		row.Primary = heirs[c.w.rng.IntN(len(heirs))]
		for _, m := range row.Replicas {
			if slices.Contains(heirs, m) && (c.w.calm || c.w.rng.IntN(2) == 0) {
				row.Primary = m
				break
			}
		}
		if slices.Contains(heirs, c.w.heir) {
			row.Primary = c.w.heir
		}
		c.change(slot, row, gone)
		return
	}
	doubtful := slices.DeleteFunc(slices.Clone(row.InSync), c.lost)
	if len(doubtful) == 0 || c.silent(row.UncleanAfter, doubtful) {
		c.w.count.begins++
		c.change(slot, c.begin(row, members), row.InSync)
	}
}

// silent reports whether a log may be given up for its member's silence: if the
// primary has agreed to that, and if nobody else's word could let the member
// commit anything meanwhile (R15).
func (c *controller) silent(after time.Duration, doubtful []string) bool {
	if after == 0 || len(doubtful) > 1 {
		return false
	}
	// The controller watched the key all the time.
	k := c.w.etcd.keys[nameOf(doubtful[0])]
	return k.member == doubtful[0] && k.expires+int64(after) < c.w.now
}

// desired are the members that should hold a slot: those that do, if they are
// there, then others; at times, others first.
func (c *controller) desired(row shard.Row, members []string) []string {
	var want []string
	add := func(m string) {
		if c.present(m) && !slices.Contains(want, m) && len(want) < c.w.opt.copies {
			want = append(want, m)
		}
	}
	if !c.w.calm && c.w.rng.IntN(3) == 0 {
		for _, m := range members {
			add(m)
		}
	}
	for _, m := range row.Replicas {
		add(m)
	}
	for _, m := range slices.Concat(row.InSync, members) {
		add(m)
	}
	return want
}

func (c *controller) change(slot int, row shard.Row, absent []string) {
	c.changes = append(c.changes, &change{slot, row, absent})
}

// write tries the oldest change.
func (c *controller) write() {
	if len(c.changes) == 0 || c.w.etcd.down {
		return
	}
	x := c.changes[0]
	c.changes = c.changes[1:]
	if slices.ContainsFunc(x.absent, c.w.present) {
		return
	}
	c.w.checkBegin(x)
	if _, ok := c.w.swap(x.slot, x.row); ok {
		c.w.count.changes++
	}
}
