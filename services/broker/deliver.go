package broker

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/records"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// Deliver implements [pubsubv1.PubSubServiceServer]: the session's id begins
// with the hint of the edge that has it.
func (p *pubsub) Deliver(ctx context.Context, req *pubsubv1.DeliverRequest) (*pubsubv1.DeliverResponse, error) {
	err := checkDeliver(p.deps.Namespaces, req.GetChannel(), req.GetData(), req.GetExt(), req.GetSession(), req.GetId())
	if err != nil {
		return nil, p.metrics.refuse(err)
	}
	return &pubsubv1.DeliverResponse{}, p.metrics.refuse(p.atEdge(ctx, req.GetSession(),
		func(ctx context.Context, edge edgev1.EdgeServiceClient) error {
			_, err := edge.Deliver(ctx, &edgev1.DeliverRequest{
				Session: req.GetSession(), Channel: req.GetChannel(), Data: req.GetData(), Ext: req.GetExt(),
				Id: req.GetId(), Failed: req.GetFailed(),
			})
			return err
		}))
}

// Disconnect implements [pubsubv1.PubSubServiceServer].
func (p *pubsub) Disconnect(ctx context.Context, req *pubsubv1.DisconnectRequest) (*pubsubv1.DisconnectResponse, error) {
	if err := checkSession(req.GetSession()); err != nil {
		return nil, p.metrics.refuse(err)
	}
	return &pubsubv1.DisconnectResponse{}, p.metrics.refuse(p.atEdge(ctx, req.GetSession(),
		func(ctx context.Context, edge edgev1.EdgeServiceClient) error {
			_, err := edge.Disconnect(ctx, &edgev1.DisconnectRequest{Session: req.GetSession()})
			return err
		}))
}

// edgeCall is a call of an edge about a session, which it may not know.
type edgeCall func(ctx context.Context, edge edgev1.EdgeServiceClient) error

// atEdge calls the edge that is a session's home: the one that its id hints at,
// or else the one that presence knows.
func (p *pubsub) atEdge(ctx context.Context, session string, call edgeCall) error {
	hint, _, _ := strings.Cut(session, "-")
	for _, edge := range p.view().With(membership.Edge) {
		if shard.Hint(edge.Member()) != hint {
			continue
		}
		// Two edges may share a hint: the first to know the session has it.
		if err := p.callEdge(ctx, edge, call); status.Code(err) != codes.NotFound {
			return err
		}
	}
	if !p.records.Kept(session) {
		return unknownSession(session)
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	found, err := p.records.Locate(ctx, session)
	switch {
	case errors.Is(err, records.ErrUnknown):
		return unknownSession(session)
	case err != nil:
		return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"nobody says now where session %s is: %s", session, status.Convert(err).Message())
	}
	if home, announced := p.view().Node(found.GetHome()); announced {
		return p.callEdge(ctx, home, call)
	}
	return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
		"the edge of session %s is lost, and its client has not come to another yet", session)
}

func unknownSession(session string) error {
	return rpc.Error(codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN,
		"session %s does not exist, or no longer", session)
}

func (p *pubsub) callEdge(ctx context.Context, edge membership.Node, call edgeCall) error {
	conn, err := p.deps.Conns.Conn(edge.Addr)
	if err != nil {
		return unavailable("edge", edge, err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	err = call(ctx, edgev1.NewEdgeServiceClient(conn))
	if err == nil || rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		return err
	}
	return unavailable("edge", edge, err)
}

// unavailable says that a node could not be asked; who asked may try again.
func unavailable(role string, n membership.Node, err error) error {
	return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
		"%s %s cannot be asked: %s", role, n.Name, status.Convert(err).Message())
}
