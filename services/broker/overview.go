package broker

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/shard"
)

// slotInfo is a slot as its row shows it.
func slotInfo(n shard.Slot, row shard.Row) *adminv1.SlotInfo {
	return &adminv1.SlotInfo{
		Slot: uint32(n), Term: row.Term, Version: row.Version, Base: row.Base,
		Primary: row.Primary, InSync: row.InSync, Desired: row.Replicas,
	}
}

// judge says what state a slot is in, for those who see this view: it is led if
// its primary is announced, or has just said that it leads.
func judge(s *adminv1.SlotInfo, view membership.View) {
	_, announced := view.Node(s.GetPrimary())
	switch {
	case !announced && s.GetLog() == nil:
		s.State = adminv1.SlotState_SLOT_STATE_LEADERLESS
		return
	case slices.ContainsFunc(s.GetDesired(), func(m string) bool { return !slices.Contains(s.GetInSync(), m) }):
		s.State = adminv1.SlotState_SLOT_STATE_UNDER_REPLICATED
	default:
		s.State = adminv1.SlotState_SLOT_STATE_COMPLETE
	}
	s.WaitsFor, s.Hint = "", "" // that was before
}

// names reports whether a slot is, or should be, at the broker of a name.
func names(s *adminv1.SlotInfo, broker string) bool {
	at := func(m string) bool { return nameOf(m) == broker }
	return at(s.GetPrimary()) || slices.ContainsFunc(s.GetInSync(), at) || slices.ContainsFunc(s.GetDesired(), at)
}

// brokerInfos are the brokers that are announced, and those that slots count on,
// by name.
func brokerInfos(view membership.View) []*adminv1.BrokerInfo {
	found := map[string]*adminv1.BrokerInfo{}
	for _, n := range view.With(membership.Broker) {
		found[n.Member()] = &adminv1.BrokerInfo{Name: n.Name, LogId: n.ID, Zone: n.Zone, State: brokerState(n)}
	}
	get := func(member string) *adminv1.BrokerInfo {
		if found[member] == nil {
			name, id, _ := strings.Cut(member, "@")
			found[member] = &adminv1.BrokerInfo{Name: name, LogId: id, State: adminv1.BrokerState_BROKER_STATE_ABSENT}
		}
		return found[member]
	}
	for n := range shard.Slot(shard.Slots) {
		row := view.Table.Row(n)
		if row.Primary != "" {
			get(row.Primary).Primaries++
		}
		for _, m := range row.InSync {
			get(m).Copies++
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *adminv1.BrokerInfo) int {
		return cmp.Or(cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(a.GetState(), b.GetState()), cmp.Compare(a.GetLogId(), b.GetLogId()))
	})
}

func brokerState(n membership.Node) adminv1.BrokerState {
	switch {
	case n.Draining:
		return adminv1.BrokerState_BROKER_STATE_LEAVING
	case n.Cordoned:
		return adminv1.BrokerState_BROKER_STATE_DRAINING
	}
	return adminv1.BrokerState_BROKER_STATE_SERVING
}

// nameOf is a member's name.
func nameOf(member string) string {
	name, _, _ := strings.Cut(member, "@")
	return name
}

// led are the slots that this broker leads, with what is in them.
func (s *places) led() []*adminv1.SlotInfo {
	var led []*adminv1.SlotInfo
	s.each(func(p *place) {
		if !p.leads() {
			return
		}
		info := slotInfo(p.number, p.row)
		info.Log = &adminv1.SlotLog{
			End: p.log.End(), Committed: p.log.Committed(),
			Messages: uint64(p.log.History().Len()), Bytes: uint64(p.log.History().Bytes()),
		}
		led = append(led, info)
	})
	return led
}
