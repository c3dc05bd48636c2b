package edge

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/relay"
)

// deliverServer is the edge's door for brokers.
type deliverServer struct {
	edgev1.UnimplementedEdgeServiceServer

	s *Service
}

// Deliver implements [edgev1.EdgeServiceServer]. What it queues is lost with
// the session or this edge.
func (d *deliverServer) Deliver(_ context.Context, req *edgev1.DeliverRequest) (*edgev1.DeliverResponse, error) {
	if err := checkDeliver(req); err != nil {
		return nil, err
	}
	e := event.NewMessage(req.GetChannel(), req.GetData(), req.GetExt(), req.GetId(), req.GetFailed())
	if c := d.s.registry.findPublic(req.GetSession()); c == nil || !c.send(e) {
		return nil, unknownHere(req.GetSession())
	}
	return &edgev1.DeliverResponse{}, nil
}

// Relay implements [edgev1.EdgeServiceServer].
func (d *deliverServer) Relay(stream grpc.BidiStreamingServer[edgev1.RelayRequest, edgev1.RelayResponse]) error {
	return relay.Serve(stream, homeDoor{d.s})
}

// Take implements [edgev1.EdgeServiceServer].
func (d *deliverServer) Take(ctx context.Context, req *edgev1.TakeRequest) (*edgev1.TakeResponse, error) {
	handed, err := d.s.hand(ctx, req.GetSession(), req.GetEdge(), generationOf(req.GetGeneration()))
	switch {
	case err != nil:
		return nil, rpc.Error(codes.Aborted, channelv1.ErrorReason_ERROR_REASON_MOVED, "session %s: %v", req.GetSession(), err)
	case handed == nil && d.s.endings.has(req.GetSession()):
		return nil, rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN,
			"session %s has ended", req.GetSession())
	case handed == nil:
		return nil, unknownHere(req.GetSession())
	}
	return handed, nil
}

func unknownHere(session string) error {
	return rpc.Error(codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN, "this edge has no session %s", session)
}

func checkDeliver(req *edgev1.DeliverRequest) error {
	if _, roster := bayeux.RosterOf(req.GetChannel()); roster || !bayeux.ValidLiteral(req.GetChannel()) || bayeux.IsMeta(req.GetChannel()) {
		return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID,
			"channel has to be a literal channel outside /meta and /presence")
	}
	depth := bayeux.DefaultLimits().Depth
	if err := bayeux.CheckValue(req.GetData(), depth); err != nil {
		return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_DATA_INVALID, "data: %v", err)
	}
	if len(req.GetExt()) == 0 {
		return nil
	}
	if err := bayeux.CheckObject(req.GetExt(), depth); err != nil {
		return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_DATA_INVALID, "ext: %v", err)
	}
	return nil
}
