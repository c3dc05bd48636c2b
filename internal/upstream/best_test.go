package upstream

import (
	"fmt"
	"testing"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// Nodes follow a slot in their own zone where they can, spread over the rest,
// and change their mind only where the members change.
func TestBestCopy(t *testing.T) {
	brokers := map[string]membership.Node{}
	for i, zone := range []string{"a", "b", "b", "c"} {
		n := membership.Node{Name: fmt.Sprintf("broker-%d", i), ID: "1", Zone: zone}
		brokers[n.Member()] = n
	}
	best := func(node, zone string, inSync ...string) string {
		l := &loop{cfg: FollowerConfig{Node: node, Zone: zone}, brokers: brokers}
		n, ok := l.best(&followed{slot: 17, row: shard.Row{Primary: "broker-0@1", InSync: inSync}})
		if !ok {
			return ""
		}
		return n.Member()
	}
	all := []string{"broker-0@1", "broker-1@1", "broker-2@1", "broker-3@1"}
	spread := map[string]int{}
	for i := range 400 {
		node := fmt.Sprintf("edge-%d@1", i)
		chosen := best(node, "", all...)
		spread[chosen]++
		if again := best(node, "", all[:3]...); chosen != all[3] && again != chosen {
			t.Errorf("%s goes from %s to %s though only %s is gone", node, chosen, again, all[3])
		}
		if near := best(node, "b", all...); near != all[1] && near != all[2] {
			t.Errorf("%s of zone b goes to %s", node, near)
		}
		if near := best(node, "c", all[:3]...); near == all[3] {
			t.Errorf("%s goes to %s, which is not in sync", node, near)
		}
	}
	for _, m := range all {
		if spread[m] < 70 || spread[m] > 130 {
			t.Errorf("%d of 400 nodes go to %s", spread[m], m)
		}
	}
	leaving := brokers[all[0]]
	leaving.Draining = true
	brokers[all[0]] = leaving
	if got := best("edge", "a", all[:2]...); got != all[0] {
		t.Errorf("a primary that drains is left for %s", got)
	}
	leaving = brokers[all[1]]
	leaving.Draining = true
	brokers[all[1]] = leaving
	if got := best("edge", "b", all[:2]...); got != all[0] {
		t.Errorf("%s is followed, which drains", got)
	}
	if got := best("edge", "", "broker-9@1"); got != "" {
		t.Errorf("%s is followed, which nobody has announced", got)
	}
}
