package peers_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/membership/peers"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

const settle = 5 * time.Second // of virtual time

// teller is a broker that says what it is told to say.
type teller struct {
	brokerv1.UnimplementedBrokerServiceServer

	asked atomic.Int64
	rows  atomic.Pointer[[]*brokerv1.SlotRow]
}

func (b *teller) ListRows(context.Context, *brokerv1.ListRowsRequest) (*brokerv1.ListRowsResponse, error) {
	b.asked.Add(1)
	return &brokerv1.ListRowsResponse{Rows: *b.rows.Load()}, nil
}

func (b *teller) tells(rows ...*brokerv1.SlotRow) { b.rows.Store(&rows) }

func row(t *testing.T, n uint32, version int64, primary string) *brokerv1.SlotRow {
	t.Helper()
	text, err := shard.Row{Term: uint64(version), Primary: primary, Addr: "somewhere:1"}.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return &brokerv1.SlotRow{Slot: n, Version: version, Row: text}
}

// TestCutOff cuts a node off from the store, and lets a broker tell it of rows.
func TestCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, broker := comettest.NewNetwork(), &teller{}
		listener, err := network.Listen("broker-0:7070")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		brokerv1.RegisterBrokerServiceServer(server, broker)
		go func() { _ = server.Serve(listener) }()
		defer server.Stop()
		conns := rpc.NewPool(network.Dial("edge-0"))
		defer func() { _ = conns.Close() }()

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		store := memory.NewStore(0)
		others, own := store.Directory(), store.Directory()
		node := membership.Node{Name: "broker-0", ID: "a", Addr: "broker-0:7070", Roles: []membership.Role{membership.Broker}}
		go func() { _ = others.Register(ctx, node, nil) }()
		leads, err := others.Campaign(ctx, "broker-0@a")
		if err != nil {
			t.Fatal(err)
		}
		write := func(n shard.Slot, r shard.Row) {
			t.Helper()
			if err := leads.Write(ctx, membership.Change{Slot: n, Row: r}); err != nil {
				t.Fatal(err)
			}
		}
		held := membership.HoldersChange{Shard: 1, Holders: shard.Holders{Epoch: 1, First: "presence-0@p"}}
		if err := leads.WriteHolders(ctx, held); err != nil {
			t.Fatal(err)
		}
		write(1, shard.Row{Term: 1, Primary: "broker-0@a", Addr: node.Addr})
		write(2, shard.Row{Term: 1, Primary: "broker-0@a", Addr: node.Addr})
		d := peers.New(own, "edge-0", conns, slog.New(slog.DiscardHandler))
		go func() { _ = d.Run(ctx) }()
		var view membership.View
		look := func() {
			time.Sleep(settle)
			synctest.Wait()
			short, stop := context.WithCancel(ctx)
			defer stop()
			view = <-d.Watch(short)
			if got := view.Presence.Holders(1).First; got != "presence-0@p" {
				t.Errorf("presence shard 1 is held by %q", got)
			}
		}
		broker.tells(row(t, 1, 100, "broker-1@b"), row(t, 2, 0, "broker-1@b"))
		if look(); broker.asked.Load() != 0 || view.Table.Row(1).Primary != "broker-0@a" {
			t.Errorf("with the store in reach a broker was asked %d times; slot 1 is %s's", broker.asked.Load(), view.Table.Row(1).Primary)
		}

		own.Disconnect(true)
		look()
		if got := view.Table.Row(1); view.Connected || got.Primary != "broker-1@b" || got.Version != 100 {
			t.Errorf("cut off: connected %v, slot 1 is %+v", view.Connected, got)
		}
		if got := view.Table.Row(2).Primary; got != "broker-0@a" {
			t.Errorf("cut off: an older row was taken for slot 2: it is %s's", got)
		}
		if _, announced := view.Node("broker-0@a"); !announced {
			t.Error("cut off: a node is forgotten")
		}
		broker.tells(row(t, 1, 90, "broker-2@c"), row(t, 300, 200, "broker-2@c"), &brokerv1.SlotRow{Slot: 2, Version: 300, Row: []byte("{")})
		look()
		if got := view.Table.Row(1).Primary; got != "broker-1@b" || view.Table.Row(2).Primary != "broker-0@a" {
			t.Errorf("cut off: slot 1 went back to %s, or slot 2 went to nobody", got)
		}

		own.Disconnect(false)
		asked := broker.asked.Load()
		look()
		if got := view.Table.Row(1).Primary; !view.Connected || got != "broker-0@a" {
			t.Errorf("back: connected %v, slot 1 is %s's, not as the store says", view.Connected, got)
		}
		if more := broker.asked.Load() - asked; more > 1 {
			t.Errorf("back: a broker was asked %d times", more)
		}
	})
}
