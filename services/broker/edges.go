package broker

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
)

// ListEdges implements [adminv1.AdminServiceServer].
func (o *operators) ListEdges(ctx context.Context, _ *adminv1.ListEdgesRequest) (*adminv1.ListEdgesResponse, error) {
	view, err := o.seen()
	if err != nil {
		return nil, o.metrics.refuse(err)
	}
	resp := &adminv1.ListEdgesResponse{Stale: !view.Connected}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(maxAsked)
	for _, n := range view.With(membership.Edge) {
		group.Go(func() error {
			info := &adminv1.EdgeInfo{Name: n.Name, Zone: n.Zone, State: edgeState(n), Clients: o.clientsAt(ctx, n)}
			mu.Lock()
			defer mu.Unlock()
			resp.Edges = append(resp.Edges, info)
			return nil
		})
	}
	_ = group.Wait() // no fn fails
	slices.SortFunc(resp.Edges, func(a, b *adminv1.EdgeInfo) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return resp, nil
}

func edgeState(n membership.Node) adminv1.EdgeState {
	switch {
	case n.Draining:
		return adminv1.EdgeState_EDGE_STATE_LEAVING
	case n.EdgeDraining:
		return adminv1.EdgeState_EDGE_STATE_DRAINING
	}
	return adminv1.EdgeState_EDGE_STATE_SERVING
}

// clientsAt asks an edge what is at it; nil: it does not answer.
func (o *operators) clientsAt(ctx context.Context, n membership.Node) *adminv1.EdgeClients {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	conn, err := o.conns.Conn(n.Addr)
	if err != nil {
		return nil
	}
	resp, err := edgev1.NewEdgeServiceClient(conn).Inspect(ctx, &edgev1.InspectRequest{})
	if err != nil {
		return nil
	}
	return edgeClients(resp.GetState())
}

func edgeClients(p *edgev1.DrainResponse) *adminv1.EdgeClients {
	return &adminv1.EdgeClients{Sessions: p.GetSessions(), Sockets: p.GetSockets(), Readers: p.GetReaders()}
}

// DrainEdge implements [adminv1.AdminServiceServer]: it passes on what the edge
// says of its drain.
func (o *operators) DrainEdge(req *adminv1.DrainEdgeRequest, stream grpc.ServerStreamingServer[adminv1.DrainEdgeResponse]) error {
	return o.metrics.refuse(o.drainEdge(req, stream))
}

func (o *operators) drainEdge(req *adminv1.DrainEdgeRequest, stream grpc.ServerStreamingServer[adminv1.DrainEdgeResponse]) error {
	view, err := o.seen()
	if err != nil {
		return err
	}
	if err := checkName("an edge", req.GetEdge()); err != nil {
		return err
	}
	n, ok := view.Nodes[req.GetEdge()]
	if !ok || !n.Has(membership.Edge) {
		return unknownEdge(view, req.GetEdge())
	}
	conn, err := o.conns.Conn(n.Addr)
	if err != nil {
		return unavailable("edge", n, err)
	}
	ctx := stream.Context()
	progress, err := edgev1.NewEdgeServiceClient(conn).Drain(ctx, &edgev1.DrainRequest{Force: req.GetForce()})
	for err == nil {
		var p *edgev1.DrainResponse
		if p, err = progress.Recv(); err != nil {
			break
		}
		err = stream.Send(&adminv1.DrainEdgeResponse{
			Left: edgeClients(p), SentAway: p.GetSentAway(), Waiting: p.GetWaiting(), HandedOver: p.GetHandedOver(), Done: p.GetDone(),
		})
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED:
		return err
	}
	return unavailable("edge", n, err)
}

// unknownEdge is the refusal of a name that no edge has.
func unknownEdge(view membership.View, edge string) error {
	var there []string
	for _, n := range view.With(membership.Edge) {
		there = append(there, n.Name)
	}
	return rpc.Error(codes.NotFound, channelv1.ErrorReason_ERROR_REASON_EDGE_UNKNOWN,
		"there is no edge named %s; there are: %s", edge, cmp.Or(listed(there), "none"))
}
