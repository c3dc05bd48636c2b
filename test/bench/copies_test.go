package bench

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/test/internal/cluster"
)

// What BenchmarkFollowCopies does: so many edges, messages and turns.
const (
	copyFollowers = 60
	copyMessages  = 1500
	copyTurns     = 3
	copyEvery     = 3 * time.Millisecond
	copyChannel   = "/hot"
)

// BenchmarkFollowCopies is what one slot's fan-out costs its primary where all
// edges follow it there, and where they spread over its three copies.
func BenchmarkFollowCopies(b *testing.B) {
	once(b, func() {
		s := startBrokers(b, "three copies", 3, "--broker.replicas=3")
		row := rowOf(b, s.processes[0])
		var primaries, totals [2][]time.Duration
		for range copyTurns {
			for i, spread := range []bool{false, true} {
				primary, total := fanOut(b, s, row, spread)
				primaries[i], totals[i] = append(primaries[i], primary), append(totals[i], total)
			}
		}
		perDelivery := func(all []time.Duration) float64 {
			slices.Sort(all)
			return float64(all[len(all)/2].Microseconds()) / copyMessages / copyFollowers
		}
		b.ReportMetric(perDelivery(primaries[0]), "primary-cpu-µs/delivery")
		b.ReportMetric(perDelivery(primaries[1]), "primary-cpu-µs/delivery-spread")
		b.ReportMetric(perDelivery(totals[0]), "cpu-µs/delivery")
		b.ReportMetric(perDelivery(totals[1]), "cpu-µs/delivery-spread")
	})
}

func dialBroker(b *testing.B, addr string) *grpc.ClientConn {
	b.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

// rowOf is the row of the hot channel's slot, once all copies are in sync.
func rowOf(b *testing.B, p *cluster.Process) shard.Row {
	b.Helper()
	conn := dialBroker(b, p.Node)
	defer func() { _ = conn.Close() }()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		rows, err := brokerv1.NewBrokerServiceClient(conn).ListRows(b.Context(), &brokerv1.ListRowsRequest{})
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range rows.GetRows() {
			row, err := shard.ParseRow(r.GetRow(), r.GetVersion())
			if err != nil {
				b.Fatal(err)
			}
			if r.GetSlot() == uint32(shard.Of(copyChannel)) && len(row.InSync) == 3 {
				return row
			}
		}
	}
	b.Fatal("the copies do not get in sync")
	return shard.Row{}
}

// fanOut publishes to followers, and returns what that took of the primary's
// processor time and of all brokers'.
func fanOut(b *testing.B, s *system, row shard.Row, spread bool) (primary, total time.Duration) {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	var opened, received atomic.Int64
	for i := range copyFollowers {
		at := row.Primary
		if spread {
			at = row.InSync[i%len(row.InSync)]
		}
		conn := dialBroker(b, brokerOf(b, s, at).Node)
		defer func() { _ = conn.Close() }()
		follow(ctx, b, conn, row.Term, &opened, &received)
	}
	await(b, &opened, copyFollowers)
	time.Sleep(time.Second) // copies have asked for commits
	before := used(b, s)
	door := dialBroker(b, brokerOf(b, s, row.Primary).GRPC)
	defer func() { _ = door.Close() }()
	data := []byte(`"` + strings.Repeat("x", loadBytes-2) + `"`)
	pace := time.NewTicker(copyEvery)
	defer pace.Stop()
	for range copyMessages {
		<-pace.C
		if _, err := pubsubv1.NewPubSubServiceClient(door).Publish(ctx, &pubsubv1.PublishRequest{Channel: copyChannel, Data: data}); err != nil {
			b.Fatal(err)
		}
	}
	await(b, &received, copyFollowers*copyMessages)
	after := used(b, s)
	for i, p := range s.processes {
		total += after[i] - before[i]
		if p == brokerOf(b, s, row.Primary) {
			primary = after[i] - before[i]
		}
	}
	return primary, total
}

func brokerOf(b *testing.B, s *system, member string) *cluster.Process {
	b.Helper()
	name, _, _ := strings.Cut(member, "@")
	i := slices.IndexFunc(s.processes, func(p *cluster.Process) bool { return p.Name == name })
	if i < 0 {
		b.Fatalf("no broker is %s", member)
	}
	return s.processes[i]
}

func used(b *testing.B, s *system) (all []time.Duration) {
	b.Helper()
	for _, pid := range s.pids {
		d, err := cpu(pid)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func await(b *testing.B, n *atomic.Int64, want int64) {
	b.Helper()
	for end := time.Now().Add(time.Minute); n.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("%d of %d", n.Load(), want)
		}
	}
}

// follow follows the hot channel as an edge does.
func follow(ctx context.Context, b *testing.B, conn *grpc.ClientConn, term uint64, opened, received *atomic.Int64) {
	b.Helper()
	stream, err := brokerv1.NewBrokerServiceClient(conn).Attach(ctx)
	if err != nil {
		b.Fatal(err)
	}
	slot := uint32(shard.Of(copyChannel))
	for _, command := range []*brokerv1.AttachRequest{
		{Command: &brokerv1.AttachRequest_Hello{Hello: &brokerv1.Hello{Node: "bench", Credit: 64 << 20}}},
		{Command: &brokerv1.AttachRequest_Open{Open: &brokerv1.Open{Slots: []*brokerv1.OpenSlot{{Slot: slot, Copy: term}}}}},
		{Command: &brokerv1.AttachRequest_Join{Join: &brokerv1.Join{Interests: []*brokerv1.Interest{{Id: 1, Channel: copyChannel}}}}},
	} {
		if err := stream.Send(command); err != nil {
			b.Fatal(err)
		}
	}
	go func() {
		for {
			resp, err := stream.Recv()
			if err != nil {
				return // what has not come is missed
			}
			for _, f := range resp.GetFrames() {
				received.Add(int64(len(f.GetEntries().GetEntries())))
				if f.GetJoined() != nil {
					opened.Add(1)
				}
			}
		}
	}()
}
