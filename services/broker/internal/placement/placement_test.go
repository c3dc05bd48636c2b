package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

func start() time.Time { return time.Unix(1_700_000_000, 0) }

// brokers reads "a@1 b@2-" as two brokers, of which b drains.
func brokers(s string) []Broker {
	var list []Broker
	for word := range strings.FieldsSeq(s) {
		member, draining := strings.CutSuffix(word, "-")
		list = append(list, Broker{Member: member, Addr: name(member) + ":7070", Draining: draining})
	}
	return list
}

// tableOf gives the slots to the owners in turn.
func tableOf(owners ...string) *shard.Table {
	rows := map[shard.Slot]shard.Row{}
	for n := range shard.Slot(shard.Slots) {
		owner := owners[int(n)%len(owners)]
		rows[n] = shard.Row{Term: 1, Primary: owner, Base: 7, Version: int64(n) + 1}
	}
	return (*shard.Table)(nil).With(rows)
}

func summary(changes []Change) string {
	counts := map[string]int{}
	for _, c := range changes {
		counts[fmt.Sprint(c.Why, " to ", c.Row.Primary, " absent ", c.Absent)]++
	}
	var lines []string
	for line, n := range counts {
		lines = append(lines, fmt.Sprint(n, " ", line))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestPlan(t *testing.T) {
	lost := func(members ...string) map[string]bool {
		m := map[string]bool{}
		for _, member := range members {
			m[member] = true
		}
		return m
	}
	tests := []struct {
		name string
		view View
		want string
	}{
		{"nobody is there", View{}, ""},
		{
			"first assignment",
			View{Brokers: brokers("a@1 b@2")},
			"128 unassigned to a@1 absent []\n128 unassigned to b@2 absent []",
		},
		{"at rest", View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1 b@2")}, ""},
		{
			"a third joins",
			View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1 b@2 c@3")},
			"16 balance to c@3 absent []",
		},
		{"one is away, and may live", View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1")}, ""},
		{
			"one is lost",
			View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1"), Lost: lost("b@2")},
			"128 lost to a@1 absent [b@2]",
		},
		{"not yet sure", View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1"), Lost: lost("b@2"), Cautious: true}, ""},
		{
			"one came back empty",
			View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1 b@3"), Cautious: true},
			"128 lost to b@3 absent [b@2]",
		},
		{
			"one came back empty and drains",
			View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1 b@3-")},
			"128 lost to a@1 absent [b@2]",
		},
		{
			"one said to be lost is announced", View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1 b@2"), Lost: lost("b@2")}, "",
		},
		{
			"one drains",
			View{Table: tableOf("a@1", "b@2", "c@3", "d@4"), Brokers: brokers("a@1 b@2- c@3 d@4")},
			"21 draining to c@3 absent []\n21 draining to d@4 absent []\n22 draining to a@1 absent []",
		},
		{"the only one drains", View{Table: tableOf("a@1"), Brokers: brokers("a@1-")}, ""},
		{"all drain", View{Table: tableOf("a@1", "b@2"), Brokers: brokers("a@1- b@2-")}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			changes := New(Config{}).Plan(tt.view, start())
			if got := summary(changes); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestRowOfAChange(t *testing.T) {
	changes := New(Config{}).Plan(View{Table: tableOf("b@2"), Brokers: brokers("b@3")}, start())
	got := changes[5]
	want := shard.Row{
		Term: 2, Primary: "b@3", InSync: []string{"b@3"}, Replicas: []string{"b@3"},
		Base: shard.NextBase(7, start()), Version: 6, Addr: "b:7070",
	}
	if got.Slot != 5 || fmt.Sprint(got.Row) != fmt.Sprint(want) || got.Row.Version != want.Version {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBalanceIsPaced(t *testing.T) {
	p := New(Config{Burst: 4, Every: time.Second, Rest: time.Minute})
	view := View{Table: tableOf("a@1"), Brokers: brokers("a@1 b@2")}
	var plans []int
	now := start()
	for range 5 {
		changes := p.Plan(view, now)
		plans = append(plans, len(changes))
		view.Table = view.Table.With(written(changes, 1000))
		now = now.Add(500 * time.Millisecond)
	}
	if want := []int{4, 0, 4, 0, 4}; !slices.Equal(plans, want) {
		t.Errorf("plans of %v changes, want %v", plans, want)
	}
	// What was just moved is not moved on.
	view.Brokers = brokers("a@1- b@2 c@3")
	view.Table = view.Table.With(written(p.Plan(view, now), 2000))
	view.Brokers = brokers("b@2 c@3 d@4")
	for _, c := range p.Plan(view, now.Add(time.Second)) {
		if c.Slot < 12 {
			t.Errorf("slot %d moves again", c.Slot)
		}
	}
}

// written are the rows after the changes were applied.
func written(changes []Change, version int64) map[shard.Slot]shard.Row {
	rows := map[shard.Slot]shard.Row{}
	for _, c := range changes {
		c.Row.Version += version
		rows[c.Slot] = c.Row
	}
	return rows
}
