package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// slots lists slots through a broker.
func (m *member) slots(req *adminv1.ListSlotsRequest) *adminv1.ListSlotsResponse {
	m.t.Helper()
	resp, err := m.admin.ListSlots(m.t.Context(), req)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp
}

// info is what a broker says of another.
func (m *member) info(name string) *adminv1.BrokerInfo {
	m.t.Helper()
	resp, err := m.admin.ListBrokers(m.t.Context(), &adminv1.ListBrokersRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	i := slices.IndexFunc(resp.GetBrokers(), func(b *adminv1.BrokerInfo) bool { return b.GetName() == name })
	if i < 0 {
		m.t.Fatalf("no broker %s in %v", name, resp)
	}
	return resp.GetBrokers()[i]
}

// emptied waits until nothing counts on a broker any more.
func (m *member) emptied(name string) {
	m.t.Helper()
	m.eventually(time.Minute, func() error {
		if b := m.info(name); b.GetCopies() > 0 {
			return fmt.Errorf("%v", b)
		}
		return nil
	})
}

func tally(slots []*adminv1.SlotInfo) map[adminv1.SlotState]int {
	counts := map[adminv1.SlotState]int{}
	for _, s := range slots {
		counts[s.GetState()]++
	}
	return counts
}

// refusal fails unless an error has the code, the reason and the words.
func refusal(t *testing.T, what string, err error, code codes.Code, reason channelv1.ErrorReason, words string) {
	t.Helper()
	if status.Code(err) != code || rpc.Reason(err) != reason || !strings.Contains(fmt.Sprint(err), words) {
		t.Errorf("%s: %.300v; want %v, %v, %q", what, err, code, reason, words)
	}
}

func TestListSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 2, "a", "b")
		a, b := m[0], m[1]
		channel := channelOf(b)
		at := a.publish(channel, "1")
		for _, via := range m {
			all := via.slots(&adminv1.ListSlotsRequest{})
			if len(all.GetSlots()) != shard.Slots || all.GetReplicas() != 2 || nameIn(all.GetController()) == "" || all.GetStale() {
				t.Errorf("through %s: %d slots, %d copies, controller %q, stale %v",
					via.name, len(all.GetSlots()), all.GetReplicas(), all.GetController(), all.GetStale())
			}
			if diff := cmp.Diff(map[adminv1.SlotState]int{adminv1.SlotState_SLOT_STATE_COMPLETE: shard.Slots}, tally(all.GetSlots())); diff != "" {
				t.Error(diff)
			}
			s := all.GetSlots()[shard.Of(channel)]
			row := c.view().Table.Row(shard.Of(channel))
			if s.GetPrimary() != b.node.Member() || !slices.Equal(s.GetInSync(), row.InSync) || s.GetVersion() != row.Version ||
				s.GetTerm() != row.Term || s.GetBase() != row.Base || !slices.Equal(s.GetDesired(), row.Replicas) {
				t.Errorf("through %s: %v, want %+v", via.name, s, row)
			}
			if l := s.GetLog(); l.GetEnd() != at || l.GetCommitted() != at || l.GetMessages() != 1 || l.GetBytes() == 0 {
				t.Errorf("through %s: log %v, want one message at %d", via.name, l, at)
			}
		}

		c.net.Partition("a", "b")
		time.Sleep(5 * time.Second)
		short := a.slots(&adminv1.ListSlotsRequest{State: adminv1.SlotState_SLOT_STATE_UNDER_REPLICATED})
		if len(short.GetSlots()) != shard.Slots || !slices.Equal(short.GetSilent(), []string{"b"}) {
			t.Errorf("without a connection %d slots lack a copy, silent are %v", len(short.GetSlots()), short.GetSilent())
		}
		for _, s := range short.GetSlots() {
			if ours := s.GetPrimary() == a.node.Member(); ours != (s.GetLog() != nil) {
				t.Fatalf("of slot %v", s)
			}
		}
		c.net.Heal("a", "b")
		c.settled(m...)

		if none := a.slots(&adminv1.ListSlotsRequest{State: adminv1.SlotState_SLOT_STATE_LEADERLESS}); len(none.GetSlots()) > 0 {
			t.Errorf("nobody leads %v", none.GetSlots())
		}
		c.store.Disconnect(true)
		time.Sleep(time.Second)
		if stale := a.slots(&adminv1.ListSlotsRequest{}); !stale.GetStale() || len(stale.GetSlots()) != shard.Slots {
			t.Errorf("without a directory: %d slots, stale %v", len(stale.GetSlots()), stale.GetStale())
		}
		c.store.Disconnect(false)
	})
}

func nameIn(member string) string {
	name, _, _ := strings.Cut(member, "@")
	return name
}

// TestListSlotsOfABroker finds a slot at whoever holds it.
func TestListSlotsOfABroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := copies(t, 2, "a", "b", "c")
		total := 0
		for _, of := range m {
			list := m[0].slots(&adminv1.ListSlotsRequest{Broker: of.name}).GetSlots()
			if info := m[0].info(of.name); int(info.GetCopies()) != len(list) || int(info.GetPrimaries()) != of.owned() {
				t.Errorf("%s holds %d slots: %v", of.name, len(list), info)
			}
			total += len(list)
		}
		if total != 2*shard.Slots {
			t.Errorf("%d copies", total)
		}
	})
}

// TestMoveSlot moves slots, with orders to every broker, to where there is no
// copy yet.
func TestMoveSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 2, "a", "b", "c")
		load := m[2].load(20*time.Millisecond, manyChannels(50)...)
		for i, via := range m {
			n, to := c.apart(shard.Slot(60*i), m)
			before := c.view().Table.Row(n)
			moved, err := via.admin.MoveSlot(t.Context(), &adminv1.MoveSlotRequest{Slot: uint32(n), Broker: to.name})
			if err != nil {
				t.Fatalf("through %s: %v", via.name, err)
			}
			row := c.view().Table.Row(n)
			if row.Primary != to.node.Member() || row.Base != before.Base || row.Term <= before.Term {
				t.Errorf("slot %d went from %+v to %+v, not to %s", n, before, row, to.name)
			}
			if s := moved.GetSlot(); s.GetSlot() != uint32(n) || s.GetPrimary() != row.Primary || s.GetTerm() != row.Term {
				t.Errorf("answered %v", s)
			}
			again, err := via.admin.MoveSlot(t.Context(), &adminv1.MoveSlotRequest{Slot: uint32(n), Broker: to.name})
			if err != nil || again.GetSlot().GetTerm() != row.Term {
				t.Errorf("once more: %v, %v", again, err)
			}
		}
		load.finish()
	})
}

// apart is the first slot from n on that some broker has no copy of, and that
// broker.
func (c *cluster) apart(n shard.Slot, members []*member) (shard.Slot, *member) {
	c.t.Helper()
	table := c.view().Table
	for ; n < shard.Slots; n++ {
		for _, m := range members {
			if !slices.Contains(table.Row(n).Replicas, m.node.Member()) {
				return n, m
			}
		}
	}
	c.t.Fatal("everybody has everything")
	return 0, nil
}

// TestMoveWaits moves a slot to a broker that its primary cannot reach.
func TestMoveWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 1, "a", "b")
		n := c.view().Table.Owned(m[1].node.Member())[0]
		c.net.Partition("a", "b")
		order := &adminv1.MoveSlotRequest{Slot: uint32(n), Broker: "a"}
		begin := time.Now()
		_, err := m[0].admin.MoveSlot(t.Context(), order)
		refusal(t, "in a partition", err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the order stands")
		if took := time.Since(begin); took < 20*time.Second || took > 22*time.Second {
			t.Errorf("answered after %v", took)
		}
		c.net.Heal("a", "b")
		if _, err := m[0].admin.MoveSlot(t.Context(), order); err != nil {
			t.Error(err)
		}
		if row := c.view().Table.Row(n); row.Primary != m[0].node.Member() {
			t.Errorf("%+v", row)
		}
	})
}

// TestRecoverSlot leaves slots without a holder that could be asked.
func TestRecoverSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.config.Replicas, c.config.UncleanAfter = 2, -1
		a, b, d := c.start("a"), c.start("b"), c.start("d")
		c.settled(a, b, d)
		c.net.Partition("a", "b")
		c.net.Partition("a", "d")
		b.kill()
		d.kill()
		var waiting []*adminv1.SlotInfo
		c.eventually(time.Minute, func() error {
			waiting = a.slots(&adminv1.ListSlotsRequest{State: adminv1.SlotState_SLOT_STATE_LEADERLESS}).GetSlots()
			undecided := slices.ContainsFunc(waiting, func(s *adminv1.SlotInfo) bool { return s.GetWaitsFor() != "return" })
			if len(waiting) == 0 || undecided || a.owned()+len(waiting) != shard.Slots {
				return fmt.Errorf("a leads %d slots, %d wait, the first is %v", a.owned(), len(waiting), waiting[:min(1, len(waiting))])
			}
			return nil
		})
		if s := waiting[0]; !strings.Contains(s.GetHint(), "comet slots recover") || s.GetLog() != nil {
			t.Errorf("%v", s)
		}
		if info := a.info("b"); info.GetState() != adminv1.BrokerState_BROKER_STATE_ABSENT || info.GetCopies() == 0 {
			t.Errorf("of who is gone: %v", info)
		}
		n := waiting[0].GetSlot()
		_, err := a.admin.RecoverSlot(t.Context(), &adminv1.RecoverSlotRequest{Slot: n})
		refusal(t, "not accepted", err, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, "accept_data_loss")
		led := uint32(c.view().Table.Owned(a.node.Member())[0])
		_, err = a.admin.RecoverSlot(t.Context(), &adminv1.RecoverSlotRequest{Slot: led, AcceptDataLoss: true})
		refusal(t, "of what is led", err, codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED, "needs no recovery")
		recovered, err := a.admin.RecoverSlot(t.Context(), &adminv1.RecoverSlotRequest{Slot: n, AcceptDataLoss: true})
		if err != nil {
			t.Fatal(err)
		}
		if s := recovered.GetSlot(); s.GetBase() <= waiting[0].GetBase() || s.GetTerm() <= waiting[0].GetTerm() ||
			s.GetPrimary() != a.node.Member() || s.GetState() == adminv1.SlotState_SLOT_STATE_LEADERLESS {
			t.Errorf("from %v to %v", waiting[0], s)
		}
		if at := a.publish(channelIn(shard.Slot(n)), "1"); at <= recovered.GetSlot().GetBase() {
			t.Errorf("published at %d", at)
		}
		left := a.slots(&adminv1.ListSlotsRequest{State: adminv1.SlotState_SLOT_STATE_LEADERLESS}).GetSlots()
		if len(left) != len(waiting)-1 {
			t.Errorf("%d slots wait after one of %d was recovered", len(left), len(waiting))
		}
	})
}

// channelIn is a channel of a slot.
func channelIn(n shard.Slot) string {
	for i := 0; ; i++ {
		if channel := fmt.Sprintf("/in/%d", i); shard.Of(channel) == n {
			return channel
		}
	}
}

// TestDrainByOrder empties a broker under load, which then serves on as a
// forwarder; it stays empty under another controller and after an outage of the
// directory.
func TestDrainByOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 2, "a", "b", "c", "d")
		a, b := m[0], m[1]
		load := b.load(20*time.Millisecond, manyChannels(50)...)
		live := b.subscribe("", "/load/**")
		drained, err := a.admin.DrainBroker(t.Context(), &adminv1.DrainBrokerRequest{Broker: "b"})
		if err != nil || drained.GetBroker().GetState() != adminv1.BrokerState_BROKER_STATE_DRAINING {
			t.Fatalf("%v, %v", drained, err)
		}
		a.emptied("b")
		for n := range shard.Slot(shard.Slots) {
			if row := c.view().Table.Row(n); len(row.InSync) < 2 {
				t.Errorf("slot %d: %+v", n, row)
			}
		}
		if err := b.service.Ready(); err != nil {
			t.Errorf("b is not ready: %v", err)
		}
		_, err = a.admin.MoveSlot(t.Context(), &adminv1.MoveSlotRequest{Slot: 3, Broker: "b"})
		refusal(t, "move to b", err, codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED, "b drains")

		leader := c.controller(a)
		before := nameIn(a.slots(&adminv1.ListSlotsRequest{}).GetController())
		leader.dir.Disconnect(true) // another is elected when its lease has ended
		b.dir.Disconnect(true)
		time.Sleep(10 * time.Second)
		leader.dir.Disconnect(false)
		b.dir.Disconnect(false)
		time.Sleep(10 * time.Second)
		if now := nameIn(a.slots(&adminv1.ListSlotsRequest{}).GetController()); now == before || now == "" {
			t.Errorf("the controller is %q after %q", now, before)
		}
		if info := a.info("b"); info.GetState() != adminv1.BrokerState_BROKER_STATE_DRAINING || info.GetCopies() > 0 {
			t.Errorf("under another controller: %v", info)
		}
		if _, err := b.admin.UndrainBroker(t.Context(), &adminv1.UndrainBrokerRequest{Broker: "b"}); err != nil {
			t.Fatal(err)
		}
		c.settled(m...)
		load.finish()
		if v := live.check(load); v.resyncs > 0 || v.received != load.published {
			t.Errorf("%+v of %d", v, load.published)
		}
	})
}

// controller is the member that is elected.
func (c *cluster) controller(ask *member) *member {
	c.t.Helper()
	name := nameIn(ask.slots(&adminv1.ListSlotsRequest{}).GetController())
	for _, m := range c.members {
		if m.name == name {
			return m
		}
	}
	c.t.Fatalf("no member %q is the controller", name)
	return nil
}

// TestTheLastOneKeepsItsSlots: orders never leave nobody to hold slots, and one
// that was drained takes them when all others end.
func TestTheLastOneKeepsItsSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := copies(t, 2, "a", "b")
		a, b := m[0], m[1]
		at := a.publish("/x", "1")
		if _, err := a.admin.DrainBroker(t.Context(), &adminv1.DrainBrokerRequest{Broker: "b"}); err != nil {
			t.Fatal(err)
		}
		a.emptied("b")
		_, err := b.admin.DrainBroker(t.Context(), &adminv1.DrainBrokerRequest{Broker: "a"})
		refusal(t, "the last one", err, codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED, "no other broker could take its slots")
		a.drain()
		if n := b.owned(); n != shard.Slots {
			t.Errorf("b leads %d slots", n)
		}
		b.subscribe(fmt.Sprint(at-1), "/x").want("1")
	})
}

func TestOrdersWithoutAController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 1, "a", "b")
		c.store.Disconnect(true)
		time.Sleep(10 * time.Second)
		_, err := m[0].admin.MoveSlot(t.Context(), &adminv1.MoveSlotRequest{Slot: 1, Broker: "b"})
		refusal(t, "move", err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NO_CONTROLLER, "try again")
		begin := time.Now()
		_, err = m[0].admin.DrainBroker(t.Context(), &adminv1.DrainBrokerRequest{Broker: "b"})
		refusal(t, "drain", err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "b has the order")
		if took := time.Since(begin); took > 21*time.Second {
			t.Errorf("answered after %v", took)
		}
		time.AfterFunc(3*time.Second, func() { c.store.Disconnect(false) })
		if _, err := m[0].admin.MoveSlot(t.Context(), &adminv1.MoveSlotRequest{Slot: 1, Broker: "a"}); rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_NO_CONTROLLER {
			t.Errorf("an order that waits for a controller: %v", err)
		}
		m[0].emptied("b")
	})
}

// TestBadOrders asks for what makes no sense.
func TestBadOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := copies(t, 1, "a", "b")
		a := m[0]
		long := strings.Repeat("x", 1<<20)
		move := func(slot uint32, broker string) func() error {
			return func() error {
				_, err := a.admin.MoveSlot(t.Context(), &adminv1.MoveSlotRequest{Slot: slot, Broker: broker})
				return err
			}
		}
		recov := func(slot uint32) func() error {
			return func() error {
				_, err := a.admin.RecoverSlot(t.Context(), &adminv1.RecoverSlotRequest{Slot: slot, AcceptDataLoss: true})
				return err
			}
		}
		drain := func(broker string) func() error {
			return func() error {
				_, err := a.admin.DrainBroker(t.Context(), &adminv1.DrainBrokerRequest{Broker: broker})
				_, err2 := a.admin.UndrainBroker(t.Context(), &adminv1.UndrainBrokerRequest{Broker: broker})
				if fmt.Sprint(err) != fmt.Sprint(err2) {
					t.Errorf("drain: %v, undrain: %v", err, err2)
				}
				return err
			}
		}
		list := func(state adminv1.SlotState, broker string) func() error {
			return func() error {
				_, err := a.admin.ListSlots(t.Context(), &adminv1.ListSlotsRequest{State: state, Broker: broker})
				return err
			}
		}
		parameter, nobody := channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, channelv1.ErrorReason_ERROR_REASON_BROKER_UNKNOWN
		for _, tt := range []struct {
			name   string
			ask    func() error
			code   codes.Code
			reason channelv1.ErrorReason
			words  string
		}{
			{"move 256", move(256, "a"), codes.InvalidArgument, parameter, "no slot 256; they go from 0 to 255"},
			{"move 2^32-1", move(1<<32-1, "a"), codes.InvalidArgument, parameter, "no slot 4294967295"},
			{"move to nobody", move(1, ""), codes.InvalidArgument, parameter, "the name of a broker is needed"},
			{"move to 1 MB", move(1, long), codes.InvalidArgument, parameter, "1048576 bytes"},
			{"move to a member", move(1, a.node.Member()), codes.InvalidArgument, parameter, "the part before @"},
			{"move to an unknown", move(1, "z"), codes.NotFound, nobody, "no broker named z; there are: a, b"},
			{"recover 256", recov(256), codes.InvalidArgument, parameter, "no slot 256"},
			{"drain nobody", drain(""), codes.InvalidArgument, parameter, "name of a broker"},
			{"drain 1 MB", drain(long), codes.InvalidArgument, parameter, "1048576 bytes"},
			{"drain an unknown", drain("z"), codes.NotFound, nobody, "there are: a, b"},
			{"drain control bytes", drain("a\n"), codes.InvalidArgument, parameter, `"a\n" is not`},
			{"list of an unknown", list(0, "z"), codes.NotFound, nobody, "there are: a, b"},
			{"list of 1 MB", list(0, long), codes.InvalidArgument, parameter, "1048576 bytes"},
			{"list of no state", list(77, ""), codes.InvalidArgument, parameter, "no state 77"},
		} {
			refusal(t, tt.name, tt.ask(), tt.code, tt.reason, tt.words)
		}
	})
}
