package comettest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// conn is a connection from a host of its own to a door of a cluster.
func conn(t *testing.T, c *comettest.Cluster, host, door string) *grpc.ClientConn {
	t.Helper()
	pool := rpc.NewPool(c.Net.Dial(host))
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := pool.Conn(door)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// sessions are those of a user, or all, as a presence process lists them.
func sessions(t *testing.T, c *comettest.Cluster, user string) []*presencev1.Session {
	t.Helper()
	presence := presencev1.NewPresenceServiceClient(conn(t, c, "backend", "presence-0:9090"))
	for range 100 {
		list, err := presence.ListSessions(t.Context(), &presencev1.ListSessionsRequest{User: user})
		if err == nil {
			return list.GetSessions()
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("presence lists no sessions")
	return nil
}

// sessionOf is the public id of a client that has subscribed to a channel that is
// its own.
func sessionOf(t *testing.T, c *comettest.Cluster, channel string) string {
	t.Helper()
	for range 100 {
		for _, s := range sessions(t, c, "") {
			if slices.Contains(s.GetChannels(), channel) {
				return s.GetSession()
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("nobody is subscribed to %s", channel)
	return ""
}

// drainByOrder drains an edge as an operator does, and returns the last of its
// progress.
func drainByOrder(t *testing.T, c *comettest.Cluster, req *adminv1.DrainEdgeRequest) (last *adminv1.DrainEdgeResponse, err error) {
	t.Helper()
	admin := adminv1.NewAdminServiceClient(conn(t, c, "operator", "broker-0:9090"))
	stream, err := admin.DrainEdge(t.Context(), req)
	for at := time.Now(); err == nil; {
		var p *adminv1.DrainEdgeResponse
		if p, err = stream.Recv(); err != nil {
			break
		}
		if silent := time.Since(at); silent > time.Second {
			t.Errorf("no progress for %v", silent)
		}
		at, last = time.Now(), p
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return last, err
}

// TestServerSubscribes has a backend subscribe clients, which then live through a
// drain of their edge and the death of the next one: they miss nothing, and get
// nothing any more once they are unsubscribed.
func TestServerSubscribes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 3, Brokers: 2, Presence: 2})
		c.Balanced(time.Minute)
		backend := c.Backend("backend")[1]
		publishers := []*comettest.Publisher{
			c.Publish("backend", "/news/a", 130*time.Millisecond), c.Publish("backend", "/news/b", 700*time.Millisecond),
			c.Publish("backend", "/extra", 300*time.Millisecond),
		}
		var clients []*comettest.Client
		for i, p := range []comettest.Profile{{}, {Ack: true}, {Roams: true}, {Ack: true, Transport: comettest.WebSocket}} {
			p.Name, p.Repeats = fmt.Sprintf("client-%d", i), 2*repeated // the drained edge is asked, too
			p.Edges = []string{"edge-0", "edge-1", "edge-2"}
			p.Channels, p.Enlisted = []string{fmt.Sprintf("/own/%d", i)}, []string{"/news/*", "/extra"}
			clients = append(clients, c.Connect(p))
		}
		var ids []string
		for _, client := range clients {
			id := sessionOf(t, c, client.Channels[0])
			ids = append(ids, id)
			for range 2 {
				resp, err := backend.SubscribeSession(t.Context(), &pubsubv1.SubscribeSessionRequest{Session: id, Channels: client.Enlisted})
				if err != nil || resp.GetSessions() != 1 {
					t.Fatalf("%v, %v", resp, err)
				}
			}
			client.Enlist()
		}
		time.Sleep(5 * time.Second)
		if last, err := drainByOrder(t, c, &adminv1.DrainEdgeRequest{Edge: "edge-0"}); err != nil || !last.GetDone() {
			t.Errorf("drain: %v, %v", last, err)
		}
		time.Sleep(10 * time.Second)
		c.Crash("edge-1")
		time.Sleep(30 * time.Second)
		settle(t, publishers)
		for i, client := range clients {
			if err := comettest.Check(client, publishers...); err != nil {
				t.Error(err)
			}
			if n := len(client.Of(comettest.Session)); n != 1 {
				t.Errorf("%s had %d sessions, want one", client.Name, n)
			}
			_, err := backend.UnsubscribeSession(t.Context(), &pubsubv1.UnsubscribeSessionRequest{Session: ids[i], Channels: client.Enlisted})
			if err != nil {
				t.Error(err)
			}
		}
		late := c.Publish("backend", "/news/c", 100*time.Millisecond)
		time.Sleep(10 * time.Second)
		late.Stop()
		for _, client := range clients {
			for _, r := range client.Of(comettest.Event) {
				if r.Channel == late.Channel {
					t.Errorf("%s gets events of %s", client.Name, r.Channel)
					break
				}
			}
		}
	})
}

// christen makes all sessions of a cluster those of a user, as a home would that
// knows who they are: it claims them, says so, and dies.
func christen(t *testing.T, c *comettest.Cluster, user string) {
	t.Helper()
	node := membership.Node{Name: "edge-9", ID: "9", Addr: "edge-9:7070", Roles: []membership.Role{membership.Edge}}
	ctx, die := context.WithCancel(t.Context())
	defer die()
	gone := make(chan error, 1)
	go func() { gone <- c.Store.Directory().Register(ctx, node, nil) }()
	holder := conn(t, c, node.Name, "presence-0:7070")
	stream, err := edgev1.NewReportServiceClient(holder).Report(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var all []uint32
	for n := range uint32(shard.PresenceShards) {
		all = append(all, n)
	}
	records := edgev1.NewRecordServiceClient(holder)
	report := func(r *edgev1.ReportRequest) {
		t.Helper()
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	report(&edgev1.ReportRequest{Edge: node.Member(), BegunShards: all, SyncedShards: all})
	for _, s := range sessions(t, c, "") {
		at, err := records.Locate(ctx, &edgev1.LocateRequest{Session: s.GetSession()})
		if err != nil {
			t.Fatal(err)
		}
		claimed, err := records.Claim(ctx, &edgev1.ClaimRequest{Session: s.GetSession(), Edge: node.Member(), Expected: at.GetGeneration()})
		if err != nil {
			t.Fatal(err)
		}
		state := claimed.GetState()
		state.User, state.Generation = user, claimed.GetGeneration()
		report(&edgev1.ReportRequest{Vector: claimed.GetVector(), Changes: []*edgev1.SessionChange{
			{Session: s.GetSession(), Change: &edgev1.SessionChange_Present{Present: state}},
		}})
	}
	die()
	<-gone
}

// TestDisconnectUser ends all sessions of a user, at three edges one of which
// dies: also those that no edge has any more.
func TestDisconnectUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 3, Brokers: 2, Presence: 1})
		c.Balanced(time.Minute)
		var clients []*comettest.Client
		for i := range 9 {
			p := comettest.Profile{Name: fmt.Sprintf("client-%d", i), Channels: []string{"/a"}, Repeats: time.Hour, Ack: i%2 == 0}
			for j := range 3 {
				p.Edges = append(p.Edges, fmt.Sprintf("edge-%d", (i+j)%3))
			}
			clients = append(clients, c.Connect(p))
		}
		time.Sleep(3 * time.Second)
		christen(t, c, "ann")
		time.Sleep(20 * time.Second)
		other := c.Client("other", "edge-0", "/a")
		at := map[string]int{}
		for _, s := range sessions(t, c, "ann") {
			at[s.GetEdge()]++
		}
		if at["edge-0"]+at["edge-1"]+at["edge-2"] != 9 || at["edge-1"] == 0 {
			t.Fatalf("ann's sessions are at %v", at)
		}
		backend := c.Backend("backend")[0]
		subscribed, err := backend.SubscribeSession(t.Context(), &pubsubv1.SubscribeSessionRequest{User: "ann", Channels: []string{"/ann"}})
		if err != nil || subscribed.GetSessions() != 9 {
			t.Errorf("subscribe: %v, %v", subscribed, err)
		}
		note := c.Publish("backend", "/ann", time.Second)
		time.Sleep(5 * time.Second)
		note.Stop()
		for _, client := range clients {
			if n := len(client.Of(comettest.Event)); n < 4 {
				t.Errorf("%s got %d events", client.Name, n)
			}
		}
		c.Crash("edge-1")
		began := time.Now()
		ended, err := backend.Disconnect(t.Context(), &pubsubv1.DisconnectRequest{User: "ann"})
		if err != nil || ended.GetDisconnected() != 9 {
			t.Errorf("disconnect: %v, %v, after %v", ended, err, time.Since(began))
		}
		time.Sleep(20 * time.Second)
		if left := sessions(t, c, "ann"); len(left) != 0 {
			t.Errorf("sessions are left: %v", left)
		}
		ended, err = backend.Disconnect(t.Context(), &pubsubv1.DisconnectRequest{User: "ann"})
		if err != nil || ended.GetDisconnected() != 0 {
			t.Errorf("once more: %v, %v", ended, err)
		}
		for _, client := range clients {
			if n := len(client.Of(comettest.Session)); n != 2 {
				t.Errorf("%s had %d sessions, want a second one", client.Name, n)
			}
		}
		if n := len(other.Of(comettest.Session)); n != 1 {
			t.Errorf("somebody else had %d sessions", n)
		}
	})
}

// TestDrainByOrder drains an edge that stays, with clients of all kinds: nothing is
// lost, nothing comes twice, and nobody has a session there any more.
func TestDrainByOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 2, Presence: 1})
		c.Balanced(time.Minute)
		publishers := []*comettest.Publisher{c.Publish("backend", "/news/x", 100*time.Millisecond)}
		kinds := []comettest.Transport{comettest.LongPolling, comettest.WebSocket, comettest.SSE, comettest.Stream, comettest.PlainSocket, comettest.LongPoll}
		var clients []*comettest.Client
		for i := range 4 * len(kinds) {
			p := comettest.Profile{
				Name: fmt.Sprintf("client-%d", i), Transport: kinds[i%len(kinds)], Ack: i%4 == 1,
				Edges: []string{"edge-0", "edge-1"}, Channels: []string{"/news/x"},
			}
			clients = append(clients, c.Connect(p))
		}
		time.Sleep(5 * time.Second)
		_, err := drainByOrder(t, c, &adminv1.DrainEdgeRequest{Edge: "moon"})
		if rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_EDGE_UNKNOWN || !strings.Contains(err.Error(), "edge-0, edge-1") {
			t.Errorf("an unknown edge: %v", err)
		}
		last, err := drainByOrder(t, c, &adminv1.DrainEdgeRequest{Edge: "edge-0"})
		left := last.GetLeft()
		if err != nil || !last.GetDone() || left.GetSessions()+left.GetSockets()+left.GetReaders() != 0 || last.GetHandedOver() != 8 {
			t.Errorf("the end of the drain: %v, %v", last, err)
		}
		if _, err = drainByOrder(t, c, &adminv1.DrainEdgeRequest{Edge: "edge-1"}); rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED {
			t.Errorf("the last edge: %v", err)
		}
		time.Sleep(20 * time.Second)
		list, err := adminv1.NewAdminServiceClient(conn(t, c, "operator", "broker-1:9090")).ListEdges(t.Context(), &adminv1.ListEdgesRequest{})
		if err != nil || len(list.GetEdges()) != 2 {
			t.Fatalf("edges: %v, %v", list, err)
		}
		drained, serving := list.GetEdges()[0], list.GetEdges()[1]
		if drained.GetState() != adminv1.EdgeState_EDGE_STATE_DRAINING || drained.GetClients().GetSessions() != 0 {
			t.Errorf("the drained edge is %v", drained)
		}
		if serving.GetState() != adminv1.EdgeState_EDGE_STATE_SERVING || serving.GetClients().GetSessions() != 8 || serving.GetClients().GetReaders() == 0 {
			t.Errorf("the other edge is %v", serving)
		}
		began := time.Now()
		c.Stop("edge-0")
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it ended %v after it was drained and stopped", took)
		}
		settle(t, publishers)
		for _, client := range clients {
			if err := comettest.Check(client, publishers...); err != nil {
				t.Error(err)
			}
			if n := len(client.Of(comettest.Session)); n > 1 {
				t.Errorf("%s had %d sessions, want one", client.Name, n)
			}
			onceEach(t, client)
		}
	})
}

// TestSessionBetweenEdges orders what becomes of a session whose edge was drained
// while its client was away: it cannot be subscribed, but ended.
func TestSessionBetweenEdges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 1, Presence: 1})
		backend := c.Backend("backend")[0]
		client := c.Connect(comettest.Profile{Name: "client", Edges: []string{"edge-0", "edge-1"}, Channels: []string{"/own"}})
		id := sessionOf(t, c, "/own")
		client.Stop()
		if last, err := drainByOrder(t, c, &adminv1.DrainEdgeRequest{Edge: "edge-0"}); err != nil || last.GetHandedOver() != 1 {
			t.Fatalf("drain: %v, %v", last, err)
		}
		began := time.Now()
		_, err := backend.SubscribeSession(t.Context(), &pubsubv1.SubscribeSessionRequest{Session: id, Channels: []string{"/a"}})
		if rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE || time.Since(began) > 11*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		began = time.Now()
		ended, err := backend.Disconnect(t.Context(), &pubsubv1.DisconnectRequest{Session: id})
		if err != nil || ended.GetDisconnected() != 1 || time.Since(began) > time.Second {
			t.Errorf("disconnect: %v, %v after %v", ended, err, time.Since(began))
		}
		_, err = backend.Disconnect(t.Context(), &pubsubv1.DisconnectRequest{Session: id})
		if rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN {
			t.Errorf("once more: %v", err)
		}
		client.Return()
		time.Sleep(20 * time.Second)
		if n := len(client.Of(comettest.Session)); n != 2 {
			t.Errorf("the client had %d sessions, want a new one", n)
		}
		if all := sessions(t, c, ""); len(all) != 1 || all[0].GetSession() == id {
			t.Errorf("presence lists %v", all)
		}
	})
}

// TestSubscribedEdgeDies has the edge of clients die just when a backend has
// subscribed them: where they go on they have the subscription.
func TestSubscribedEdgeDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 1, Presence: 2})
		backend := c.Backend("backend")[0]
		var clients []*comettest.Client
		for i := range 6 {
			clients = append(clients, c.Connect(comettest.Profile{
				Name: fmt.Sprintf("client-%d", i), Ack: i%2 == 0, Edges: []string{"edge-0", "edge-1"}, Repeats: repeated,
				Channels: []string{fmt.Sprintf("/own/%d", i), "/old"}, Enlisted: []string{"/new/*"},
			}))
		}
		for i, client := range clients {
			id := sessionOf(t, c, fmt.Sprintf("/own/%d", i))
			if _, err := backend.SubscribeSession(t.Context(), &pubsubv1.SubscribeSessionRequest{Session: id, Channels: client.Enlisted}); err != nil {
				t.Fatal(err)
			}
			if _, err := backend.UnsubscribeSession(t.Context(), &pubsubv1.UnsubscribeSessionRequest{Session: id, Channels: []string{"/old"}}); err != nil {
				t.Fatal(err)
			}
			client.Enlist()
		}
		c.Crash("edge-0")
		publishers := []*comettest.Publisher{c.Publish("backend", "/new/a", 200*time.Millisecond)}
		old := c.Publish("backend", "/old", 200*time.Millisecond)
		time.Sleep(30 * time.Second)
		old.Stop()
		settle(t, publishers)
		for _, client := range clients {
			if err := comettest.Check(client, publishers...); err != nil {
				t.Error(err)
			}
			for _, r := range client.Of(comettest.Event) {
				if r.Channel == old.Channel {
					t.Errorf("%s gets events of %s again", client.Name, r.Channel)
					break
				}
			}
		}
	})
}
