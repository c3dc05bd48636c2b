package records_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/test/bufconn"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/records"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// holder knows the sessions of ann; it gives three at a time.
type holder struct {
	edgev1.UnimplementedHolderServiceServer

	shards   int // that it expects to be asked about
	sessions []string
	refuses  atomic.Int32 // calls, before it answers
}

func (h *holder) Sessions(_ context.Context, req *edgev1.SessionsRequest) (*edgev1.SessionsResponse, error) {
	asked := 0
	for _, b := range req.GetShards() {
		for ; b != 0; b &= b - 1 {
			asked++
		}
	}
	if h.refuses.Add(-1) >= 0 || asked != h.shards {
		return nil, rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_MOVED, "%d shards, %d are held", asked, h.shards)
	}
	list := &presencev1.ListSessionsResponse{}
	for _, id := range h.sessions {
		if req.GetUser() == "ann" && req.GetIdsOnly() && id > req.GetAfter() && len(list.GetSessions()) < 3 {
			list.Sessions = append(list.Sessions, &presencev1.Session{Session: id})
		}
	}
	return &edgev1.SessionsResponse{List: list, More: len(list.GetSessions()) == 3}, nil
}

// TestSessions gathers the sessions of a user from two holders.
func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rows := map[shard.PresenceShard]shard.Holders{}
		for n := range shard.PresenceShard(shard.PresenceShards) {
			rows[n] = shard.Holders{First: fmt.Sprintf("p%d@1", n%2), Version: 1}
		}
		view := membership.View{Nodes: map[string]membership.Node{}, Presence: new(shard.HolderTable).With(rows)}
		listeners := map[string]*bufconn.Listener{}
		var want []string
		var holders []*holder
		for i := range 2 {
			name := fmt.Sprintf("p%d", i)
			h := &holder{shards: shard.PresenceShards / 2}
			h.refuses.Store(int32(2 * i))
			for j := range 3 + 4*i {
				h.sessions = append(h.sessions, fmt.Sprintf("s%d-%d", j, i))
			}
			want, holders = append(want, h.sessions...), append(holders, h)
			view.Nodes[name] = membership.Node{Name: name, ID: "1", Addr: name, Roles: []membership.Role{membership.Presence}}
			listeners[name] = bufconn.Listen(1 << 16)
			server := grpc.NewServer()
			edgev1.RegisterHolderServiceServer(server, h)
			listener := listeners[name]
			go func() { _ = server.Serve(listener) }()
			defer server.Stop()
		}
		slices.Sort(want)
		pool := rpc.NewPool(func(ctx context.Context, addr string) (net.Conn, error) { return listeners[addr].DialContext(ctx) })
		defer func() { _ = pool.Close() }()
		c := records.New(func() membership.View { return view }, pool)
		ask := func(user string, most int) ([]string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return c.Sessions(ctx, user, most)
		}
		if got, err := ask("ann", len(want)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
		if got, err := ask("bob", 1); err != nil || len(got) != 0 {
			t.Errorf("nobody's: %v, %v", got, err)
		}
		for _, most := range []int{1, len(want) - 1} {
			if got, err := ask("ann", most); !errors.Is(err, records.ErrTooMany) {
				t.Errorf("at most %d: %v, %v", most, got, err)
			}
		}
		holders[0].refuses.Store(1000)
		if got, err := ask("ann", 100); rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_MOVED {
			t.Errorf("without an answer: %v, %v", got, err)
		}
		delete(view.Nodes, "p1")
		if got, err := ask("ann", 100); err == nil {
			t.Errorf("without a holder: %v", got)
		}
	})
}
