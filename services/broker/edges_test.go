package broker_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
)

// drainingEdge is an edge with two clients, which takes two seconds to drain.
type drainingEdge struct {
	edgev1.UnimplementedEdgeServiceServer
	forced bool
}

func (e *drainingEdge) Drain(req *edgev1.DrainRequest, stream grpc.ServerStreamingServer[edgev1.DrainResponse]) error {
	if e.forced && !req.GetForce() {
		return rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED, "there is no other edge")
	}
	for _, p := range []*edgev1.DrainResponse{{Sessions: 2, Waiting: 2}, {Sessions: 1, SentAway: 2}, {SentAway: 2, HandedOver: 2, Done: true}} {
		if err := stream.Send(p); err != nil {
			return err
		}
		select {
		case <-time.After(time.Second):
		case <-stream.Context().Done(): // the server ends, and waits for this
			return context.Cause(stream.Context())
		}
	}
	return nil
}

func (e *drainingEdge) Inspect(context.Context, *edgev1.InspectRequest) (*edgev1.InspectResponse, error) {
	return &edgev1.InspectResponse{State: &edgev1.DrainResponse{Sessions: 2, Sockets: 1, Readers: 3}}, nil
}

// TestDrainEdge passes orders on to edges, and what these say back.
func TestDrainEdge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := c.start("a")
		ctx, stop := context.WithCancelCause(t.Context())
		ended := make(chan error, 5)
		serving := &drainingEdge{}
		for _, n := range []membership.Node{
			{Name: "e", ID: "1", Addr: "e:7070", Zone: "z"},
			{Name: "last", ID: "2", Addr: "last:7070", EdgeDraining: true},
			{Name: "silent", ID: "3", Addr: "silent:7070", Draining: true},
		} {
			n.Roles = []membership.Role{membership.Edge}
			go func() { ended <- c.store.Directory().Register(ctx, n, nil) }()
			if n.Name == "silent" {
				continue
			}
			edge := serving
			if n.Name == "last" {
				edge = &drainingEdge{forced: true}
			}
			server := rpc.NewServer(rpc.ServerConfig{}, c.listen(n.Addr))
			edgev1.RegisterEdgeServiceServer(server, edge)
			go func() { ended <- server.Run(ctx) }()
		}
		synctest.Wait()
		list, err := a.admin.ListEdges(t.Context(), &adminv1.ListEdgesRequest{})
		if err != nil || len(list.GetEdges()) != 3 {
			t.Fatalf("%v, %v", list, err)
		}
		for i, want := range []struct {
			name, zone string
			state      adminv1.EdgeState
			sessions   uint32
		}{
			{"e", "z", adminv1.EdgeState_EDGE_STATE_SERVING, 2},
			{"last", "", adminv1.EdgeState_EDGE_STATE_DRAINING, 2},
			{"silent", "", adminv1.EdgeState_EDGE_STATE_LEAVING, 0},
		} {
			e := list.GetEdges()[i]
			if e.GetName() != want.name || e.GetZone() != want.zone || e.GetState() != want.state || e.GetClients().GetSessions() != want.sessions {
				t.Errorf("edge %d is %v", i, e)
			}
		}
		drain := func(edge string, force bool) (last *adminv1.DrainEdgeResponse, err error) {
			stream, err := a.admin.DrainEdge(t.Context(), &adminv1.DrainEdgeRequest{Edge: edge, Force: force})
			for err == nil {
				var p *adminv1.DrainEdgeResponse
				if p, err = stream.Recv(); err == nil {
					last = p
				}
			}
			return last, err
		}
		if p, err := drain("e", false); !errors.Is(err, io.EOF) || !p.GetDone() || p.GetSentAway() != 2 || p.GetHandedOver() != 2 {
			t.Errorf("drain: %v, %v", p, err)
		}
		if p, err := drain("last", true); !errors.Is(err, io.EOF) || !p.GetDone() {
			t.Errorf("by force: %v, %v", p, err)
		}
		refused, unavailable := channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE
		for _, tt := range []struct {
			edge   string
			code   codes.Code
			reason channelv1.ErrorReason
			words  string
		}{
			{"", codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, "the name of an edge is needed"},
			{"e@1", codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, "not the name of an edge"},
			{"a", codes.NotFound, channelv1.ErrorReason_ERROR_REASON_EDGE_UNKNOWN, "no edge named a; there are: e, last, silent"},
			{"last", codes.FailedPrecondition, refused, "there is no other edge"},
			{"silent", codes.Unavailable, unavailable, "edge silent cannot be asked"},
		} {
			_, err := drain(tt.edge, false)
			refusal(t, "drain "+tt.edge, err, tt.code, tt.reason, tt.words)
		}
		time.AfterFunc(500*time.Millisecond, func() { c.net.Crash("e") })
		p, err := drain("e", false)
		refusal(t, "drain of one that dies", err, codes.Unavailable, unavailable, "edge e cannot be asked")
		if p == nil || p.GetDone() {
			t.Errorf("it got to %v", p)
		}
		stop(run.ErrDraining)
		for range 5 {
			<-ended
		}
	})
}
