package placement

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/comet-push/comet/internal/shard"
)

// cluster is a directory whose controller follows the plans; some of its
// writes fail.
type cluster struct {
	planner  *Planner
	now      time.Time
	view     View
	ids      int
	version  int64
	terms    [shard.Slots]uint64
	bases    [shard.Slots]uint64
	balanced map[shard.Slot]time.Time
}

func (c *cluster) announced(member string) *Broker {
	i := slices.IndexFunc(c.view.Brokers, func(b Broker) bool { return b.Member == member })
	if i < 0 {
		return nil
	}
	return &c.view.Brokers[i]
}

// replaced reports whether another id is announced under the name of a member.
func (c *cluster) replaced(member string) bool {
	return slices.ContainsFunc(c.view.Brokers, func(b Broker) bool {
		return name(b.Member) == name(member) && b.Member != member
	})
}

// step plans once and applies what fails does not name.
func (c *cluster) step(t *rapid.T, fails func() bool) int {
	changes := c.planner.Plan(c.view, c.now)
	rows := map[shard.Slot]shard.Row{}
	for _, ch := range changes {
		if _, twice := rows[ch.Slot]; twice {
			t.Fatalf("slot %d twice in a plan", ch.Slot)
		}
		c.justify(t, ch)
		if fails() {
			continue
		}
		c.version++
		ch.Row.Version = c.version
		rows[ch.Slot] = ch.Row
		c.terms[ch.Slot], c.bases[ch.Slot] = ch.Row.Term, ch.Row.Base
	}
	c.view.Table = c.view.Table.With(rows)
	return len(changes)
}

func (c *cluster) justify(t *rapid.T, ch Change) {
	old := c.view.Table.Row(ch.Slot)
	to := c.announced(ch.Row.Primary)
	if to == nil || to.Draining || to.Member == old.Primary {
		t.Fatalf("%+v goes to nobody fit (%+v)", ch, to)
	}
	if ch.Row.Term != c.terms[ch.Slot]+1 || ch.Row.Base <= c.bases[ch.Slot] || ch.Row.Version != old.Version {
		t.Fatalf("%+v after %+v", ch, old)
	}
	owner := c.announced(old.Primary)
	var ok bool
	switch ch.Why {
	case Unassigned:
		ok = old.Primary == ""
	case Draining:
		ok = owner != nil && owner.Draining
	case Lost:
		known := c.replaced(old.Primary) || c.view.Lost[old.Primary] && !c.view.Cautious
		ok = owner == nil && known && slices.Equal(ch.Absent, []string{old.Primary})
	case Balance:
		ok = owner != nil && !owner.Draining && c.now.Sub(c.balanced[ch.Slot]) >= c.planner.cfg.Rest &&
			len(c.view.Table.Owned(old.Primary)) > len(c.view.Table.Owned(ch.Row.Primary))+1
		c.balanced[ch.Slot] = c.now
	}
	if !ok {
		t.Fatalf("%+v is not justified: %+v", ch, old)
	}
}

// settle follows plans until there are none, and checks what came of them.
func (c *cluster) settle(t *rapid.T) {
	c.view.Cautious = false
	for quiet, steps := 0, 0; quiet < 12; steps++ {
		if steps > 500 {
			t.Fatal("never comes to rest")
		}
		if c.step(t, func() bool { return false }) == 0 {
			quiet++
		} else {
			quiet = 0
		}
		c.now = c.now.Add(time.Second)
	}
	least, most := shard.Slots, 0
	for _, b := range c.view.Brokers {
		if !b.Draining {
			owned := len(c.view.Table.Owned(b.Member))
			least, most = min(least, owned), max(most, owned)
		}
	}
	if most == 0 && least == shard.Slots {
		return // no broker may own anything
	}
	if most > least+1 {
		t.Fatalf("between %d and %d slots each", least, most)
	}
	for n := range shard.Slot(shard.Slots) {
		owner := c.view.Table.Row(n).Primary
		b := c.announced(owner)
		away := b == nil && !c.replaced(owner) && !c.view.Lost[owner] && owner != ""
		if !away && (b == nil || b.Draining) {
			t.Fatalf("slot %d stays with %q", n, owner)
		}
	}
}

func TestPlacementConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{
			planner:  New(Config{Burst: rapid.IntRange(1, 32).Draw(t, "burst"), Rest: 5 * time.Second}),
			now:      start(),
			view:     View{Lost: map[string]bool{}},
			balanced: map[shard.Slot]time.Time{},
		}
		anyBroker := func(t *rapid.T) int {
			if len(c.view.Brokers) == 0 {
				t.Skip("no brokers")
			}
			return rapid.IntRange(0, len(c.view.Brokers)-1).Draw(t, "broker")
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "name")
				c.ids++
				b := Broker{Member: fmt.Sprint(name, "@", c.ids)}
				c.view.Brokers = slices.DeleteFunc(c.view.Brokers, func(o Broker) bool {
					return len(o.Member) > 0 && o.Member[0] == name[0]
				})
				c.view.Brokers = append(c.view.Brokers, b)
			},
			"drain": func(t *rapid.T) { c.view.Brokers[anyBroker(t)].Draining = true },
			"vanish": func(t *rapid.T) {
				i := anyBroker(t)
				member := c.view.Brokers[i].Member
				c.view.Brokers = slices.Delete(c.view.Brokers, i, i+1)
				if rapid.Bool().Draw(t, "known lost") {
					c.view.Lost[member] = true
				}
			},
			"caution": func(t *rapid.T) { c.view.Cautious = rapid.Bool().Draw(t, "cautious") },
			"plan": func(t *rapid.T) {
				one := rapid.IntRange(1, 5).Draw(t, "writes in a failure")
				writes := 0
				c.step(t, func() bool { writes++; return writes%one == 0 })
				c.now = c.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			},
			"settle": c.settle,
		})
		c.settle(t)
	})
}

func BenchmarkPlan(b *testing.B) {
	view := View{Table: tableOf("a@1", "b@2", "c@3"), Brokers: brokers("a@1 b@2 c@3")}
	p := New(Config{})
	b.ReportAllocs()
	for b.Loop() {
		if changes := p.Plan(view, start()); len(changes) > 0 {
			b.Fatal(changes)
		}
	}
}
