package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// announced reads "a@1/x b@2/y-" as two brokers in zones x and y, of which b
// drains.
func announced(s string) []Broker {
	var list []Broker
	for word := range strings.FieldsSeq(s) {
		word, draining := strings.CutSuffix(word, "-")
		member, zone, _ := strings.Cut(word, "/")
		list = append(list, Broker{Member: member, Addr: name(member) + ":7070", Zone: zone, Draining: draining})
	}
	return list
}

// row reads "a@1 [a@1,b@2] (b@2,a@1)": the primary, who is in sync, who is desired.
func row(s string) shard.Row {
	words := strings.Fields(s)
	list := func(s string) []string { return strings.Split(s[1:len(s)-1], ",") }
	return shard.Row{
		Term: 3, Primary: words[0], Addr: "old:7070", InSync: list(words[1]), Replicas: list(words[2]),
		Base: 7, UncleanAfter: 20 * time.Second, Version: 9,
	}
}

// all is a table of one row in all slots.
func all(r shard.Row) *shard.Table {
	rows := map[shard.Slot]shard.Row{}
	for n := range shard.Slot(shard.Slots) {
		rows[n] = r
	}
	return (*shard.Table)(nil).With(rows)
}

// text is what a plan does with slot 0: the reason, the primary, who is in sync
// and who is desired; then who must be absent and present.
func text(p Plan) string {
	for _, c := range p.Changes {
		if c.Slot != 0 {
			continue
		}
		s := fmt.Sprintf("%s %s [%s] (%s)", c.Why, c.Row.Primary, strings.Join(c.Row.InSync, ","), strings.Join(c.Row.Replicas, ","))
		for _, m := range c.Absent {
			s += " -" + m
		}
		for _, m := range c.Present {
			s += " +" + m
		}
		return s
	}
	return string(p.Waiting[0])
}

func TestPlan(t *testing.T) {
	lost := func(members ...string) View {
		v := View{Lost: map[string]bool{}}
		for _, m := range members {
			v.Lost[m] = true
		}
		return v
	}
	cautious := View{Cautious: true}
	tests := []struct {
		name    string
		row     string // empty: none
		brokers string
		view    View // the rest of it
		want    string
	}{
		{"nobody is there", "", "", View{}, "brokers"},
		{"only who drains", "", "a@1-", View{}, "brokers"},
		{"first row", "", "a@1", View{}, "unassigned a@1 [a@1] (a@1) +a@1"},
		{"first row with a copy", "", "a@1 b@2 c@3-", View{}, "unassigned a@1 [a@1] (a@1,b@2) +a@1"},
		{"first row in two zones", "", "a@1/x b@2/x c@3/y", cautious, "unassigned a@1 [a@1] (a@1,c@3) +a@1"},
		{"at rest", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@2", View{}, ""},

		{"primary gone", "a@1 [a@1,b@2] (a@1,b@2)", "b@2", View{}, "failover b@2 [b@2] (a@1,b@2) -a@1 +b@2"},
		{"primary replaced", "a@1 [a@1,b@2] (a@1,b@2)", "a@3 b@2", View{}, "failover b@2 [b@2] (a@1,b@2) -a@1 +b@2"},
		{"primary perhaps gone", "a@1 [a@1,b@2] (a@1,b@2)", "b@2", cautious, "caution"},
		{"primary replaced, in caution", "a@1 [a@1,b@2] (a@1,b@2)", "a@3 b@2", cautious, "failover b@2 [b@2] (a@1,b@2) -a@1 +b@2"},
		{"another may be late", "a@1 [a@1,b@2,c@3] (a@1,b@2,c@3)", "a@4 c@3", cautious, "failover c@3 [b@2,c@3] (a@1,b@2,c@3) -a@1 +c@3"},
		{"another is gone, too", "a@1 [a@1,b@2,c@3] (a@1,b@2,c@3)", "c@3", View{}, "failover c@3 [c@3] (a@1,b@2,c@3) -a@1 -b@2 +c@3"},
		{"in the order of desire", "a@1 [a@1,b@2,c@3] (a@1,c@3,b@2)", "b@2 c@3", View{}, "failover c@3 [b@2,c@3] (a@1,c@3,b@2) -a@1 +c@3"},
		{"undesired last", "a@1 [a@1,b@2,c@3] (a@1,c@3)", "b@2 c@3", View{}, "failover c@3 [b@2,c@3] (a@1,c@3) -a@1 +c@3"},
		{"draining last", "a@1 [a@1,b@2,c@3] (a@1,c@3)", "b@2 c@3-", View{}, "failover b@2 [b@2,c@3] (a@1,c@3) -a@1 +b@2"},
		{"draining at all", "a@1 [a@1,c@3] (a@1,c@3)", "b@2 c@3-", View{}, "failover c@3 [c@3] (a@1,c@3) -a@1 +c@3"},
		{"not in sync", "a@1 [a@1] (a@1,b@2)", "b@2", View{}, "silence"},

		{"all replaced", "a@1 [a@1,b@2] (a@1,b@2)", "a@3 b@4", cautious, "lost a@3 [a@3] (a@3,b@4) -a@1 -b@2 +a@3"},
		{"all lost", "a@1 [a@1] (a@1,b@2)", "b@2 c@3", lost("a@1"), "lost b@2 [b@2] (b@2,c@3) -a@1 +b@2"},
		{"one replaced, one lost", "a@1 [a@1,b@2] (a@1,b@2)", "a@3 c@4", lost("b@2"), "lost a@3 [a@3] (a@3,c@4) -a@1 -b@2 +a@3"},
		{"one lost, one silent", "a@1 [a@1,b@2] (a@1,b@2)", "c@3 d@4 e@5", lost("b@2"), "silence"},
		{"two silent", "a@1 [a@1,b@2] (a@1,b@2)", "c@3 d@4 e@5", View{}, "return"},
		{"lost, in caution", "a@1 [a@1] (a@1)", "b@2", View{Cautious: true, Lost: map[string]bool{"a@1": true}}, "caution"},
		{"most are gone", "a@1 [a@1,b@2] (a@1,b@2)", "c@3", lost("a@1", "b@2"), "majority"},
		{"lost with nobody to begin", "a@1 [a@1] (a@1)", "b@2-", lost("a@1"), "brokers"},
		{"said to be lost, and there", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@2", lost("a@1"), ""},

		{"a copy gone", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 c@3", View{}, "repair a@1 [a@1,b@2] (a@1,c@3)"},
		{"a copy perhaps gone", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 c@3", cautious, ""},
		{"a copy replaced", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@3 c@3", cautious, "repair a@1 [a@1,b@2] (a@1,b@3)"},
		{"a copy gone with nobody else", "a@1 [a@1,b@2] (a@1,b@2)", "a@1", View{}, "repair a@1 [a@1,b@2] (a@1)"},
		{"the first was replaced", "b@2 [b@2] (a@1,b@2)", "a@3 b@2 c@4", View{}, "repair b@2 [b@2] (a@3,b@2)"},
		{"the first is gone", "b@2 [b@2] (a@1,b@2)", "b@2 c@4", View{}, "repair b@2 [b@2] (b@2,c@4)"},
		{"too few", "a@1 [a@1] (a@1)", "a@1 b@2", View{}, "repair a@1 [a@1] (a@1,b@2)"},
		{"in another zone", "a@1 [a@1] (a@1)", "a@1/x b@2/x c@3/y", View{}, "repair a@1 [a@1] (a@1,c@3)"},
		{"too many", "a@1 [a@1,b@2] (a@1,b@2,c@3)", "a@1 b@2 c@3", View{}, "repair a@1 [a@1,b@2] (a@1,b@2)"},
		{"who was to be moved to is gone", "a@1 [a@1,b@2] (c@3,b@2)", "a@1 b@2 d@4", View{}, "repair a@1 [a@1,b@2] (a@1,b@2)"},
		{"about to be handed over", "a@1 [a@1,b@2] (b@2,c@3)", "a@1 b@2 d@4", View{}, ""},

		{"a copy drains", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@2- c@3", View{}, "draining a@1 [a@1,b@2] (a@1,c@3)"},
		{"a primary drains", "a@1 [a@1,b@2] (a@1,b@2)", "a@1- b@2 c@3", View{}, "draining a@1 [a@1,b@2] (b@2,c@3)"},
		{"a sole primary drains", "a@1 [a@1] (a@1)", "a@1- b@2", View{}, "draining a@1 [a@1] (b@2)"},
		{"one drains and one stays", "a@1 [a@1,b@2] (a@1,b@2)", "a@1- b@2", View{}, "draining a@1 [a@1,b@2] (b@2)"},
		{"all drain", "a@1 [a@1,b@2] (a@1,b@2)", "a@1- b@2-", View{}, ""},
		{"a drain ended", "a@1 [a@1,b@2] (b@2)", "a@1 b@2", View{}, ""},

		{"moved to who holds it", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@2 c@3", moveTo("b"), "ordered a@1 [a@1,b@2] (b@2,a@1)"},
		{"moved to another", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@2 c@3", moveTo("c"), "ordered a@1 [a@1,b@2] (c@3,b@2)"},
		{"moved to another of the copy's zone", "a@1 [a@1,b@2] (a@1,b@2)", "a@1/x b@2/y c@3/y", moveTo("c"), "ordered a@1 [a@1,b@2] (c@3,a@1)"},
		{"moved to where it is", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@2", moveTo("a"), ""},
		{"moved to nobody", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@2", moveTo("x"), ""},
		{"moved to who drains", "a@1 [a@1,b@2] (a@1,b@2)", "a@1 b@2 c@3-", moveTo("c"), ""},

		{"recovered", "a@1 [a@1,b@2] (a@1,b@2)", "c@3", recovered(), "recovered c@3 [c@3] (c@3) -a@1 -b@2 +c@3"},
		{"recovered with somebody in sync", "a@1 [a@1,b@2] (a@1,b@2)", "b@2 c@3", recovered(), "caution"},
		{"recovered though led", "a@1 [a@1] (a@1)", "a@1", recovered(), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := tt.view
			v.Brokers = announced(tt.brokers)
			if tt.row != "" {
				v.Table = all(row(tt.row))
			}
			p := New(Config{UncleanAfter: 30 * time.Second})
			p.next = start().Add(time.Hour) // nothing for balance
			if got := text(p.Plan(v, start())); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func moveTo(broker string) View {
	return View{Orders: Orders{Move: map[shard.Slot]string{0: broker}}}
}

func recovered() View {
	return View{Cautious: true, Orders: Orders{Recover: map[shard.Slot]bool{0: true}}}
}

func TestRows(t *testing.T) {
	p := New(Config{UncleanAfter: 30 * time.Second})
	got := p.Plan(View{Table: all(row("a@1 [a@1,b@2] (a@1,b@2)")), Brokers: announced("b@2")}, start()).Changes[5]
	want := shard.Row{
		Term: 4, Primary: "b@2", Addr: "b:7070", InSync: []string{"b@2"}, Replicas: []string{"a@1", "b@2"},
		Base: 7, UncleanAfter: 30 * time.Second, Version: 9,
	}
	if got.Slot != 5 || fmt.Sprint(got.Row) != fmt.Sprint(want) {
		t.Errorf("promoted: got %+v, want %+v", got, want)
	}
	got = New(Config{UncleanAfter: 30 * time.Second}).Plan(View{Table: all(row("a@1 [a@1] (a@1)")), Brokers: announced("a@2")}, start()).Changes[5]
	want = shard.Row{
		Term: 4, Primary: "a@2", Addr: "a:7070", InSync: []string{"a@2"}, Replicas: []string{"a@2"},
		Base: shard.NextBase(7, start()), UncleanAfter: 30 * time.Second, Version: 9,
	}
	if got.Slot != 5 || fmt.Sprint(got.Row) != fmt.Sprint(want) {
		t.Errorf("new: got %+v, want %+v", got, want)
	}
}

// TestWaits follows a slot that nobody leads through time.
func TestWaits(t *testing.T) {
	type at struct {
		after time.Duration
		view  View
		want  string
	}
	never := row("a@1 [a@1] (a@1,b@2)")
	never.UncleanAfter = 0
	timed := row("a@1 [a@1] (a@1,b@2)")
	twice := row("a@1 [a@1,b@2] (a@1,b@2)")
	const begun = "unclean b@2 [b@2] (b@2,c@3) -a@1 +b@2"
	bc, lost := announced("b@2 c@3"), map[string]bool{"a@1": true, "b@2": true}
	aLost := map[string]bool{"a@1": true}
	tests := []struct {
		name  string
		row   shard.Row
		steps []at
	}{
		{"after the row's time", timed, []at{
			{0, View{Brokers: bc}, "silence"},
			{20*time.Second - 1, View{Brokers: bc}, "silence"},
			{20 * time.Second, View{Brokers: bc}, begun},
		}},
		{"never by time", never, []at{
			{0, View{Brokers: bc}, "return"},
			{time.Hour, View{Brokers: bc}, "return"},
			{time.Hour, View{Brokers: bc, Lost: lost}, "lost b@2 [b@2] (b@2,c@3) -a@1 +b@2"},
		}},
		{"caution begins anew", timed, []at{
			{0, View{Brokers: bc}, "silence"},
			{19 * time.Second, View{Brokers: bc, Cautious: true}, "caution"},
			{28 * time.Second, View{Brokers: bc}, "silence"},
			{48*time.Second - 1, View{Brokers: bc}, "silence"},
			{48 * time.Second, View{Brokers: bc}, begun},
		}},
		{"one was there again", timed, []at{
			{0, View{Brokers: bc}, "silence"},
			{19 * time.Second, View{Brokers: announced("a@1 b@2 c@3")}, ""},
			{20 * time.Second, View{Brokers: bc}, "silence"},
			{40*time.Second - 1, View{Brokers: bc}, "silence"},
			{40 * time.Second, View{Brokers: bc}, begun},
		}},
		{"the other is lost", twice, []at{
			{0, View{Brokers: announced("b@2 c@3 d@4"), Cautious: true}, "caution"},
			{0, View{Brokers: announced("c@3 d@4"), Cautious: true}, "caution"},
			{5 * time.Second, View{Brokers: announced("c@3 d@4"), Lost: aLost}, "silence"},
			{25 * time.Second, View{Brokers: announced("c@3 d@4")}, "return"},
			{25 * time.Second, View{Brokers: announced("c@3 d@4"), Lost: aLost}, "unclean c@3 [c@3] (c@3,d@4) -a@1 -b@2 +c@3"},
		}},
		{"most are gone for good", twice, []at{
			{0, View{Brokers: announced("c@3"), Lost: lost}, "majority"},
			{time.Minute - 1, View{Brokers: announced("c@3"), Lost: lost}, "majority"},
			{time.Minute, View{Brokers: announced("c@3"), Lost: lost}, "lost c@3 [c@3] (c@3) -a@1 -b@2 +c@3"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := New(Config{UncleanAfter: time.Minute})
			p.next = start().Add(24 * time.Hour)
			for _, s := range tt.steps {
				s.view.Table = all(tt.row)
				if got := text(p.Plan(s.view, start().Add(s.after))); got != s.want {
					t.Errorf("after %v: got %q, want %q", s.after, got, s.want)
				}
			}
		})
	}
}

func TestRepairWaits(t *testing.T) {
	p := New(Config{RepairAfter: 10 * time.Second})
	v := View{Table: all(row("a@1 [a@1,b@2] (a@1,b@2)")), Brokers: announced("a@1 c@3")}
	p.Plan(v, start())
	if got := text(p.Plan(v, start().Add(9*time.Second))); got != "" {
		t.Errorf("after 9 s: %q", got)
	}
	if got, want := text(p.Plan(v, start().Add(10*time.Second))), "repair a@1 [a@1,b@2] (a@1,c@3)"; got != want {
		t.Errorf("after 10 s: %q, want %q", got, want)
	}
}

// TestCopiesArePaced has a broker drain that leads every slot.
func TestCopiesArePaced(t *testing.T) {
	p := New(Config{Copies: 4})
	v := View{Table: all(row("a@1 [a@1,b@2] (a@1,b@2)")), Brokers: announced("a@1- b@2 c@3")}
	plan := p.Plan(v, start())
	yields := 0
	for _, c := range plan.Changes {
		if slices.Equal(c.Row.Replicas, []string{"b@2", "a@1"}) && c.Why == Draining {
			yields++
		}
	}
	if len(plan.Changes) != shard.Slots || yields != shard.Slots-4 || len(p.copying) != 4 {
		t.Errorf("%d changes, %d slots handed over first, %d copies; want %d, %d, 4",
			len(plan.Changes), yields, len(p.copying), shard.Slots, shard.Slots-4)
	}
	// A view from before the changes were written says nothing of what they began.
	if p.See(v, start()); len(p.copying) != 4 {
		t.Errorf("%d copies are counted after an older view, want 4", len(p.copying))
	}
	// A copy that takes too long holds up nobody.
	if n := len(p.Plan(v, start().Add(copyPatience+1)).Changes); n != shard.Slots || len(p.copying) != 4 {
		t.Errorf("%d changes, %d copies after a minute", n, len(p.copying))
	}
}

// TestLastCopiesComeFirst has a broker drain that has the only copy of some
// slots, while as many copies are under way as may be, and get nowhere.
func TestLastCopiesComeFirst(t *testing.T) {
	p := New(Config{Copies: 4})
	table := all(row("b@2 [b@2,a@1] (b@2,a@1)"))
	v := View{Table: table, Brokers: announced("a@1- b@2 c@3")}
	if p.Plan(v, start()); len(p.copying) != 4 {
		t.Fatalf("%d copies are under way, want 4", len(p.copying))
	}
	alone := map[shard.Slot]shard.Row{}
	for n := range shard.Slot(32) {
		alone[100+n] = row("a@1 [a@1] (b@2,a@1)")
	}
	v.Table = table.With(alone)
	ahead := 0
	for _, c := range p.Plan(v, start().Add(time.Second)).Changes {
		if c.Slot >= 100 && c.Slot < 132 && !slices.Contains(c.Row.Replicas, "a@1") {
			ahead++
		}
	}
	if want := 4*4 - 4; ahead != want || len(p.copying) != 4*4 {
		t.Errorf("%d last copies are taken, and %d copies under way; want %d and %d", ahead, len(p.copying), want, 4*4)
	}
}

func TestBalanceIsPaced(t *testing.T) {
	w := newWorld(t, Config{Replicas: 1, Burst: 4, Every: time.Second, Rest: time.Minute})
	w.join("a", "")
	w.rest()
	w.join("b", "")
	var plans []int
	for range 5 {
		plans = append(plans, w.plan())
		for w.primaries(func() bool { return true }) > 0 {
			continue
		}
		w.now = w.now.Add(500 * time.Millisecond)
	}
	if want := []int{4, 0, 4, 0, 4}; !slices.Equal(plans, want) {
		t.Errorf("plans of %v changes, want %v", plans, want)
	}
}

func TestCheckOrders(t *testing.T) {
	v := View{
		Table:   all(row("a@1 [a@1,b@2] (a@1,b@2)")).With(map[shard.Slot]shard.Row{7: row("x@1 [x@1] (x@1)"), 8: {Version: 10}}),
		Brokers: announced("a@1 b@2 c@3-"),
	}
	tests := []struct {
		name string
		err  error
		want string // part of it; empty: none
	}{
		{"recover", v.CheckRecover(7), ""},
		{"recover who is led", v.CheckRecover(6), "a@1 is there"},
		{"recover what never was", v.CheckRecover(8), "never assigned"},
		{"recover no slot", v.CheckRecover(shard.Slots), "no slot 256"},
		{"recover with nobody", View{Table: v.Table, Brokers: announced("c@3-")}.CheckRecover(7), "all 1 brokers drain"},
		{"move", v.CheckMove(6, "b"), ""},
		{"move to nobody", v.CheckMove(6, "d"), "no broker named d"},
		{"move to who drains", v.CheckMove(6, "c"), "c drains"},
		{"move who is not led", v.CheckMove(7, "b"), "its primary is not there"},
		{"move no slot", v.CheckMove(shard.Slots, "b"), "no slot 256"},
	}
	for _, tt := range tests {
		if tt.want == "" && tt.err != nil || tt.want != "" && (tt.err == nil || !strings.Contains(tt.err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, tt.err, tt.want)
		}
	}
}
