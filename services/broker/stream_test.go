package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
)

func TestResumeFromACursor(t *testing.T) {
	tests := []struct {
		name     string
		channels []string
	}{
		{"one channel", []string{"/r/1"}},
		{"three channels", []string{"/r/1", "/r/2", "/r/3"}},
		{"a pattern", []string{"/r/*"}},
		{"a pattern and a channel it covers", []string{"/r/**", "/r/1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				a, b := c.start("a"), c.start("b")
				c.settled(a, b)
				first := a.subscribe("", tt.channels...)
				a.publish("/r/1", "1")
				first.want("1")
				cursor := first.nextCursor(26 * time.Second)
				first.cancel()
				a.publish("/r/1", "2")
				a.publish("/r/1", "3")

				second := b.subscribe(cursor, tt.channels...)
				second.want("2", "3")
				a.publish("/r/1", "4")
				second.want("4")
				fromStart := b.subscribe("earliest", tt.channels...)
				fromStart.want("1", "2", "3", "4")
			})
		})
	}
}

func TestCursorsWhileIdleAndAmongMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t).start("a")
		s := a.subscribe("", "/x", "/y")
		start := time.Now()
		s.nextCursor(time.Minute)
		if d := time.Since(start); d != 25*time.Second {
			t.Errorf("cursor after %v of silence, want 25s", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ctx.Err() == nil {
				a.publish("/x", "1")
				time.Sleep(100 * time.Millisecond)
			}
		}()
		s.nextCursor(time.Minute)
		start = time.Now()
		for range 5 {
			s.nextCursor(time.Minute)
		}
		if d := time.Since(start); d < 50*time.Second || d > 52*time.Second {
			t.Errorf("5 cursors among messages within %v, want 50s", d)
		}
		cancel()
		time.Sleep(time.Second)
	})
}

func TestRestartIsAnAnnouncedResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a, b := c.start("a"), c.start("b")
		c.settled(a, b)
		channel := channelOf(b)
		live := a.subscribe("", channel)
		before := a.publish(channel, "1")
		live.want("1")
		b.kill()
		b = c.launch("b")
		a.publish(channel, "2")
		resync := live.next(20 * time.Second).GetResync()
		if len(resync.GetChannels()) != 1 || resync.GetChannels()[0] != channel {
			t.Fatalf("got %v, want a resync of %s", resync, channel)
		}
		live.want("2")
		// Who was away learns it, too, and goes on at the new base.
		late := b.subscribe(fmt.Sprint(before), channel)
		if r := late.next(20 * time.Second).GetResync(); r.GetCursor() != resync.GetCursor() {
			t.Errorf("got %v, want a resync at %v", r, resync.GetCursor())
		}
		late.want("2")
	})
}

// channelOf finds a channel whose slot a member owns.
func channelOf(m *member) string {
	table := m.view().Table
	for i := 0; ; i++ {
		name := fmt.Sprintf("/of/%d", i)
		if table.Row(shard.Of(name)).Primary == m.node.Member() {
			return name
		}
	}
}

func TestDrainEndsSubscriptionsWithACursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a, b := c.start("a"), c.start("b")
		c.settled(a, b)
		channel := channelOf(b)
		s := a.subscribe("", channel)
		b.publish(channel, "1")
		s.want("1")
		start := time.Now()
		a.drain()
		if d := time.Since(start); d > 2*time.Second { // hand-overs are spaced out; nothing waits for the subscription
			t.Errorf("the drain took %v", d)
		}
		end := s.next(time.Second).GetEnd()
		if end.GetReason() != "draining" || s.next(time.Second) != nil || s.ended != nil {
			t.Fatalf("got %v, then %v", end, s.ended)
		}
		b.publish(channel, "2")
		b.subscribe(end.GetCursor(), channel).want("2")
		if n := b.owned(); n != shard.Slots {
			t.Errorf("b owns %d slots, want all", n)
		}
	})
}

func TestHowLongADrainTakes(t *testing.T) {
	tests := []struct {
		name     string
		others   int
		replicas int
		outage   bool
		min, max time.Duration
	}{
		{"the last broker just stops", 0, 1, false, 0, time.Second},
		{"others take the slots", 2, 1, false, 0, time.Second},
		{"nobody can take them while the store is away", 1, 2, true, 5 * time.Second, 7 * time.Second},
		{"nor the only copies", 1, 1, true, 10 * time.Second, 12 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.config.Replicas, c.config.DrainTimeout, c.config.LastCopyTimeout = tt.replicas, 5*time.Second, 10*time.Second
				members := []*member{c.start("a")}
				for i := range tt.others {
					members = append(members, c.start(fmt.Sprintf("b%d", i)))
				}
				c.settled(members...)
				follower := members[0].attachTo(shard.Of("/x"))
				c.store.Disconnect(tt.outage)
				start := time.Now()
				members[0].drain()
				if d := time.Since(start); d < tt.min || d > tt.max {
					t.Errorf("took %v, want %v to %v", d, tt.min, tt.max)
				}
				if reason := follower(); reason != channelv1.ErrorReason_ERROR_REASON_DRAINING {
					t.Errorf("its follower was told %v", reason)
				}
				c.store.Disconnect(false)
			})
		})
	}
}

// attachTo follows a slot, and returns a function that reads to the end of the
// stream and says what the broker gave as the reason.
func (m *member) attachTo(slot shard.Slot) (reason func() channelv1.ErrorReason) {
	m.t.Helper()
	stream, err := m.broker.Attach(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range []*brokerv1.AttachRequest{
		{Command: &brokerv1.AttachRequest_Hello{Hello: &brokerv1.Hello{Credit: 1000}}},
		{Command: &brokerv1.AttachRequest_Open{Open: &brokerv1.Open{Slots: []*brokerv1.OpenSlot{{Slot: uint32(slot)}}}}},
	} {
		if err := stream.Send(c); err != nil {
			m.t.Fatal(err)
		}
	}
	if _, err := stream.Recv(); err != nil { // Opened
		m.t.Fatal(err)
	}
	return func() (reason channelv1.ErrorReason) {
		for {
			resp, err := stream.Recv()
			if err != nil {
				return reason
			}
			for _, f := range resp.GetFrames() {
				if e := f.GetEnding(); e != nil {
					reason = e.GetReason()
				}
			}
		}
	}
}

func TestASlowSubscriberIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.config.SubscribeBuffer = 64 << 10
		a := c.start("a")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := a.pubsub.Subscribe(ctx, &pubsubv1.SubscribeRequest{Channels: []string{"/big"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		// It reads no more; others are not disturbed.
		other := a.subscribe("", "/big")
		text := `"` + strings.Repeat("x", 8<<10) + `"`
		for range 100 {
			a.publish("/big", text)
		}
		other.wantSet(100)
		time.Sleep(30 * time.Second)
		got := 0
		var end *pubsubv1.SubscriptionEnd
		for end == nil {
			e, err := stream.Recv()
			if err != nil {
				t.Fatalf("after %d messages: %v", got, err)
			}
			if e.GetMessage() != nil {
				got++
			}
			end = e.GetEnd()
		}
		if end.GetReason() != "slow" || got == 0 || got >= 100 {
			t.Fatalf("%d messages, then %v", got, end)
		}
		a.subscribe(end.GetCursor(), "/big").wantSet(100 - got)
	})
}

// TestLagAndPull speaks the protocol of Attach itself.
func TestLagAndPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t).start("a")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := a.broker.Attach(ctx)
		if err != nil {
			t.Fatal(err)
		}
		slot := uint32(shard.Of("/lag"))
		send := func(c *brokerv1.AttachRequest) {
			t.Helper()
			if err := stream.Send(c); err != nil {
				t.Fatal(err)
			}
		}
		frames := func(yield func(*brokerv1.Frame) bool) {
			for {
				resp, err := stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range resp.GetFrames() {
					if !yield(f) {
						return
					}
				}
			}
		}
		send(&brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Hello{Hello: &brokerv1.Hello{Credit: 1000}}})
		send(&brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Open{
			Open: &brokerv1.Open{Slots: []*brokerv1.OpenSlot{{Slot: slot}}},
		}})
		send(&brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Join{
			Join: &brokerv1.Join{Interests: []*brokerv1.Interest{{Id: 1, Channel: "/lag"}}},
		}})
		for f := range frames {
			if f.GetJoined() != nil {
				break
			}
		}
		for range 50 {
			a.publish("/lag", "1")
		}
		var last uint64
		entries, lags, resumed := 0, 0, false
		for f := range frames {
			for _, e := range f.GetEntries().GetEntries() {
				if last != 0 && e.GetOffset() != last+1 {
					t.Errorf("offset %d after %d", e.GetOffset(), last)
				}
				last = e.GetOffset()
				entries++
			}
			if l := f.GetLag(); l != nil {
				lags++
				if l.GetThrough() != last {
					t.Errorf("lag at %d after entry %d", l.GetThrough(), last)
				}
				send(&brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Credit{Credit: &brokerv1.Credit{Bytes: 1000}}})
				send(&brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Pull{Pull: &brokerv1.Pull{Slot: slot}}})
			}
			if resumed = f.GetResumed() != nil; resumed {
				break
			}
		}
		if entries != 50 || lags < 3 || !resumed {
			t.Errorf("%d entries, %d lags, resumed: %v", entries, lags, resumed)
		}
		cancel()
		time.Sleep(time.Second)
	})
}

func TestAttachRefusesWhoBreaksTheProtocol(t *testing.T) {
	hello := &brokerv1.AttachRequest{Command: &brokerv1.AttachRequest_Hello{Hello: &brokerv1.Hello{Credit: 1000}}}
	tests := map[string][]*brokerv1.AttachRequest{
		"no hello":   {{Command: &brokerv1.AttachRequest_Pull{Pull: &brokerv1.Pull{}}}},
		"two":        {hello, hello},
		"bad slot":   {hello, {Command: &brokerv1.AttachRequest_Pull{Pull: &brokerv1.Pull{Slot: 256}}}},
		"bad name":   {hello, {Command: &brokerv1.AttachRequest_Join{Join: &brokerv1.Join{Interests: []*brokerv1.Interest{{Channel: "x"}}}}}},
		"no command": {hello, {}},
	}
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t).start("a")
		for name, commands := range tests {
			stream, err := a.broker.Attach(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range commands {
				_ = stream.Send(c) // an error shows in Recv
			}
			for err == nil {
				_, err = stream.Recv()
			}
			if errors.Is(err, io.EOF) {
				t.Errorf("%s: the stream ended well", name)
			}
		}
	})
}

// fakeEdge is an edge that has one session.
type fakeEdge struct {
	edgev1.UnimplementedEdgeServiceServer
	session string
	got     chan *edgev1.DeliverRequest
}

func (e *fakeEdge) Deliver(_ context.Context, r *edgev1.DeliverRequest) (*edgev1.DeliverResponse, error) {
	if r.GetSession() != e.session {
		return nil, rpc.Error(5, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN, "no such session here")
	}
	e.got <- r
	return &edgev1.DeliverResponse{}, nil
}

func (e *fakeEdge) Disconnect(_ context.Context, r *edgev1.DisconnectRequest) (*edgev1.DisconnectResponse, error) {
	if r.GetSession() != e.session {
		return nil, rpc.Error(5, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN, "no such session here")
	}
	e.session = ""
	return &edgev1.DisconnectResponse{}, nil
}

func TestDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := c.start("a")
		node := membership.Node{Name: "e", ID: "1", Roles: []membership.Role{membership.Edge}, Addr: "e:7070"}
		edge := &fakeEdge{session: shard.Hint(node.Member()) + "-s", got: make(chan *edgev1.DeliverRequest, 1)}
		server := rpc.NewServer(rpc.ServerConfig{}, c.listen(node.Addr))
		edgev1.RegisterEdgeServiceServer(server, edge)
		ctx, stop := context.WithCancelCause(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- c.store.Directory().Register(ctx, node, nil) }() // also while its server is gone
		go func() { ended <- server.Run(ctx) }()
		synctest.Wait()
		deliver := func(session string) error {
			_, err := a.pubsub.Deliver(t.Context(), &pubsubv1.DeliverRequest{
				Session: session, Channel: "/service/echo", Data: []byte(`{"n":1}`), Id: "7",
			})
			return err
		}
		if err := deliver(edge.session); err != nil {
			t.Fatal(err)
		}
		if r := <-edge.got; r.GetChannel() != "/service/echo" || string(r.GetData()) != `{"n":1}` || r.GetId() != "7" {
			t.Errorf("the edge got %v", r)
		}
		if err := deliver(shard.Hint(node.Member()) + "-other"); rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN {
			t.Errorf("other session: %v", err)
		}
		own := edge.session
		for i, want := range []channelv1.ErrorReason{
			channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN,
		} {
			_, err := a.pubsub.Disconnect(t.Context(), &pubsubv1.DisconnectRequest{Session: own})
			if rpc.Reason(err) != want || (err == nil) != (i == 0) {
				t.Errorf("disconnect, for the %d. time: %v", i+1, err)
			}
		}
		c.net.Crash(node.Name)
		if err := deliver(own); rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE {
			t.Errorf("edge that is gone: %v", err)
		}
		stop(run.ErrDraining)
		<-ended
		<-ended
	})
}

// TestAppendWaitsForTheRowItsSenderHasSeen: else a burst that arrives in that
// moment would be refused at its beginning and taken at its end.
func TestAppendWaitsForTheRowItsSenderHasSeen(t *testing.T) {
	tests := []struct {
		name    string
		version int64
		outage  time.Duration
		refused channelv1.ErrorReason
		took    time.Duration
	}{
		{"not told", 0, 5 * time.Second, channelv1.ErrorReason_ERROR_REASON_MOVED, 0},
		{"in time", 1, 500 * time.Millisecond, channelv1.ErrorReason_ERROR_REASON_MOVED, 500 * time.Millisecond},
		{"in vain", 1, 5 * time.Second, channelv1.ErrorReason_ERROR_REASON_MOVED, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				c.store.Disconnect(true)
				a := c.launch("a")
				stream, err := a.broker.Append(t.Context(), grpc.WaitForReady(true))
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				time.AfterFunc(tt.outage, func() { c.store.Disconnect(false) })
				for range 3 {
					if err := stream.Send(offers(&brokerv1.Offer{Channel: "/a", Data: []byte("1"), Version: tt.version})); err != nil {
						t.Fatal(err)
					}
				}
				var version int64
				for answered := 0; answered < 3; {
					r, err := stream.Recv()
					if err != nil {
						t.Fatal(err)
					}
					for _, a := range r.GetAnswers() {
						answered++
						version = a.GetVersion()
						if took := time.Since(start); a.GetRefused() != tt.refused || took != tt.took {
							t.Errorf("answered %v after %v, want %v after %v", a.GetRefused(), took, tt.refused, tt.took)
						}
					}
				}
				time.Sleep(10 * time.Second)
				if version == 0 {
					return // it had heard of no row
				}
				// Version 1 was an older row's: what it refused comes first.
				if err := stream.Send(offers(&brokerv1.Offer{Channel: "/a", Data: []byte("1"), Version: version})); err != nil {
					t.Fatal(err)
				}
				if r, err := stream.Recv(); err != nil || r.GetAnswers()[0].GetRefused() != channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
					t.Errorf("by the row that is served: %v, %v", r, err)
				}
			})
		})
	}
}

// offers is a request of some offers.
func offers(all ...*brokerv1.Offer) *brokerv1.AppendRequest {
	return &brokerv1.AppendRequest{Offers: all}
}
