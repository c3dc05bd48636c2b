package broker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// copies starts brokers whose slots have so many copies.
func copies(t *testing.T, replicas int, names ...string) (*cluster, []*member) {
	t.Helper()
	c := newCluster(t)
	c.config.Replicas = replicas
	var members []*member
	for _, name := range names {
		members = append(members, c.start(name))
	}
	c.settled(members...)
	return c, members
}

// try publishes with a key and does not mind a refusal.
func (m *member) try(ctx context.Context, channel, data, key string) (*pubsubv1.PublishResponse, error) {
	return m.pubsub.Publish(ctx, &pubsubv1.PublishRequest{Channel: channel, Data: []byte(data), IdempotencyKey: key})
}

// TestFailoverKeepsWhatWasThere kills the primary of a channel. Its history,
// positions and keys go on, and so do subscribers.
func TestFailoverKeepsWhatWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m := copies(t, 2, "a", "b", "c")
		a, b := m[0], m[1]
		channel := channelOf(b)
		live := a.subscribe("", channel)
		first, err := a.try(t.Context(), channel, "1", "k")
		if err != nil {
			t.Fatal(err)
		}
		live.want("1")
		b.kill()
		begin := time.Now()
		second := a.publish(channel, "2")
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("the next publish took %v", took)
		}
		if second != first.GetPosition()+1 {
			t.Errorf("position %d after %d", second, first.GetPosition())
		}
		live.want("2")
		if again, err := a.try(t.Context(), channel, "1", "k"); err != nil || !again.GetDuplicate() || again.GetPosition() != first.GetPosition() {
			t.Errorf("the first again: %v, %v", again, err)
		}
		a.subscribe(fmt.Sprint(first.GetPosition()), channel).want("2")
		page, err := a.pubsub.History(t.Context(), &pubsubv1.HistoryRequest{Channel: channel})
		if err != nil || len(page.GetMessages()) != 2 {
			t.Errorf("history: %v, %v", page, err)
		}
	})
}

// TestPartitionedPrimary leaves a primary alone with a client: it acknowledges
// nothing and proves nothing, while another goes on. What the client published
// lands once.
func TestPartitionedPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 2, "a", "b", "c")
		a, b := m[0], m[1]
		channel := channelOf(b)
		live := a.subscribe("", channel)
		a.publish(channel, "1")
		live.want("1")
		stale := b.staleness(shard.Of(channel))

		b.dir.Disconnect(true)
		c.net.Partition("a", "b")
		c.net.Partition("b", "c")
		type outcome struct {
			resp *pubsubv1.PublishResponse
			err  error
			at   time.Time
		}
		cut, answered := time.Now(), make(chan outcome, 1)
		go func() {
			resp, err := b.try(context.Background(), channel, "2", "k")
			answered <- outcome{resp, err, time.Now()}
		}()
		a.publish(channel, "3")
		if took := time.Since(cut); took < 2*time.Second || took > 5*time.Second {
			t.Errorf("another took over after %v", took)
		}
		if since := stale(); since.Sub(cut) > 4*time.Second {
			t.Errorf("b noticed that it proves nothing after %v", since.Sub(cut))
		}
		b.dir.Disconnect(false)
		c.net.Heal("a", "b")
		c.net.Heal("b", "c")
		healed := time.Now()
		if o := <-answered; o.err != nil || o.at.Before(healed) {
			t.Errorf("b answered %v, %v, %v before the end of the partition", o.resp, o.err, healed.Sub(o.at))
		}
		live.want("3", "2")
		c.settled(m...)
		a.publish(channel, "4")
		live.want("4")
	})
}

// staleness follows a slot at a broker, and returns a function that waits until
// the broker says that it proves nothing of it, and says when that was.
func (m *member) staleness(slot shard.Slot) func() time.Time {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	m.t.Cleanup(cancel)
	stream, err := m.broker.Attach(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range []*brokerv1.AttachRequest{
		{Command: &brokerv1.AttachRequest_Hello{Hello: &brokerv1.Hello{Credit: 1 << 20}}},
		{Command: &brokerv1.AttachRequest_Open{Open: &brokerv1.Open{Slots: []*brokerv1.OpenSlot{{Slot: uint32(slot)}}}}},
	} {
		if err := stream.Send(c); err != nil {
			m.t.Fatal(err)
		}
	}
	found := make(chan time.Time, 1)
	go func() {
		for {
			resp, err := stream.Recv()
			if err != nil {
				return
			}
			for _, f := range resp.GetFrames() {
				if slices.Contains(f.GetMarks().GetStale(), uint32(slot)) {
					select {
					case found <- time.Now():
					default:
					}
				}
			}
		}
	}()
	return func() time.Time { return <-found }
}

// TestSlowBackup makes the way between two of three brokers slow: each takes
// the other out of sync, and back when it has been well for a while.
func TestSlowBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 2, "a", "b", "c")
		load := m[2].load(5*time.Millisecond, manyChannels(20)...)
		pattern := m[2].subscribe("", "/load/**")
		time.Sleep(time.Second)
		c.net.Delay("a", "b", 10*time.Second)
		c.eventually(5*time.Second, func() error {
			for n := range shard.Slot(shard.Slots) {
				row := c.view().Table.Row(n)
				if apart := !slices.Contains(row.Replicas, m[2].node.Member()); apart && len(row.InSync) != 1 {
					return fmt.Errorf("slot %d: %+v", n, row)
				}
			}
			return nil
		})
		c.net.Delay("a", "b", 0)
		begin := time.Now()
		c.settled(m...)
		took := time.Since(begin)
		load.finish()
		if v := pattern.check(load); v.resyncs > 0 || v.received != load.published || load.slowest > 2*time.Second || took < 9*time.Second {
			t.Errorf("%+v; in sync again after %v; the slowest publish took %v", v, took, load.slowest)
		}
	})
}

// TestDrainKeepsTwoCopies watches the rows: nothing acknowledged is ever on
// less than two brokers.
func TestDrainKeepsTwoCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 2, "a", "b", "c")
		ctx, cancel := context.WithCancel(t.Context())
		views := c.watch.Watch(ctx)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for view := range views {
				for n := range shard.Slot(shard.Slots) {
					if row := view.Table.Row(n); len(row.InSync) < 2 {
						t.Errorf("slot %d: %+v", n, row)
						return
					}
				}
			}
		}()
		m[1].drain()
		c.settled(m[0], m[2])
		cancel()
		<-watched
	})
}

// TestIsolated keeps the only broker from the directory: it goes on for half of
// the time after which it is given up.
func TestIsolated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 2, "a")
		a := m[0]
		a.publish("/a", "1")
		c.store.Disconnect(true)
		time.Sleep(14 * time.Second)
		a.publish("/a", "2")
		time.Sleep(2 * time.Second)
		_, err := a.try(t.Context(), "/a", "3", "")
		if rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_ISOLATED {
			t.Errorf("after 16 s: %v", err)
		}
		c.store.Disconnect(false)
		time.Sleep(time.Second)
		a.publish("/a", "3")
	})
}

// TestReadAheadWaits reads from a position that is in the log and not yet
// committed, because the backup is away.
func TestReadAheadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, m := copies(t, 2, "a", "b")
		a := m[0]
		channel := channelOf(a)
		at := a.publish(channel, "1")
		time.Sleep(2 * time.Second) // so that b was heard of
		c.net.Partition("a", "b")
		stream, err := a.broker.Append(t.Context(), grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(offers(&brokerv1.Offer{Channel: channel, Data: []byte("2")})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		since := at + 1
		begin := time.Now()
		page, err := a.broker.Read(t.Context(), &brokerv1.ReadRequest{Channel: channel, Since: &since, Limit: 10})
		if err != nil || page.GetLost() || page.GetThrough() != since {
			t.Errorf("%v, %v", page, err)
		}
		if took := time.Since(begin); took < 500*time.Millisecond || took > time.Second {
			t.Errorf("the answer took %v", took)
		}
		if resp, err := stream.Recv(); err != nil || resp.GetAnswers()[0].GetOffset() != since {
			t.Errorf("%v, %v", resp, err)
		}
		c.net.Heal("a", "b")
	})
}
