package broker

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
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
	hint, _, _ := strings.Cut(req.GetSession(), "-")
	for _, edge := range p.view().With(membership.Edge) {
		if shard.Hint(edge.Member()) != hint {
			continue
		}
		// Two edges may share a hint: the first to know the session has it.
		if err = p.deliverAt(ctx, edge, req); status.Code(err) != codes.NotFound {
			return &pubsubv1.DeliverResponse{}, p.metrics.refuse(err)
		}
	}
	return nil, p.metrics.refuse(rpc.Error(codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN,
		"session %s does not exist, or no longer", req.GetSession()))
}

func (p *pubsub) deliverAt(ctx context.Context, edge membership.Node, req *pubsubv1.DeliverRequest) error {
	conn, err := p.deps.Conns.Conn(edge.Addr)
	if err != nil {
		return unavailable("edge", edge, err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	_, err = edgev1.NewEdgeServiceClient(conn).Deliver(ctx, &edgev1.DeliverRequest{
		Session: req.GetSession(), Channel: req.GetChannel(), Data: req.GetData(), Ext: req.GetExt(),
		Id: req.GetId(), Failed: req.GetFailed(),
	})
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
