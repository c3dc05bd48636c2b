package broker

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/backoff"
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

// edgeCall is a call of an edge about a session, which it may not know.
type edgeCall func(ctx context.Context, edge edgev1.EdgeServiceClient) error

// errBetween says that a session has left an edge, and has not come to another
// yet as far as is known.
var errBetween = errors.New("the session is between two edges")

// atEdge calls the edge that is a session's home: the one that its id hints at,
// or else the one that presence knows. If that does not have it, it is looked for
// again for a while.
func (p *pubsub) atEdge(ctx context.Context, session string, call edgeCall) error {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	if err := p.atHint(ctx, session, call); !isUnknownThere(err) {
		return concluded(session, err)
	}
	return p.untilFound(ctx, session, func() error { return p.atHome(ctx, session, call) })
}

// atHint calls the edges that a session's id hints at.
func (p *pubsub) atHint(ctx context.Context, session string, call edgeCall) error {
	hint, _, _ := strings.Cut(session, "-")
	for _, edge := range p.view().With(membership.Edge) {
		if shard.Hint(edge.Member()) != hint {
			continue
		}
		// Two edges may share a hint: the first to know the session has it.
		if err := p.callEdge(ctx, edge, call); !isUnknownThere(err) {
			return err
		}
	}
	return unknownSession(session)
}

// atHome calls the edge that presence knows to be a session's home.
func (p *pubsub) atHome(ctx context.Context, session string, call edgeCall) error {
	found, err := p.locate(ctx, session)
	if err != nil {
		return err
	}
	home, announced := p.view().Node(found.GetHome())
	if !announced || found.GetLost() {
		return errBetween
	}
	if err = p.callEdge(ctx, home, call); isUnknownThere(err) {
		return errBetween
	}
	return concluded(session, err)
}

// locate asks presence for a session.
func (p *pubsub) locate(ctx context.Context, session string) (*edgev1.LocateResponse, error) {
	if !p.records.Kept(session) {
		return nil, unknownSession(session)
	}
	found, err := p.records.Locate(ctx, session)
	switch {
	case errors.Is(err, records.ErrUnknown), err == nil && found.GetHome() == "":
		return nil, unknownSession(session)
	case err != nil:
		return nil, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"nobody says now where session %s is: %s", session, status.Convert(err).Message())
	}
	return found, nil
}

// untilFound tries again while a session is between two edges, until ctx ends.
func (p *pubsub) untilFound(ctx context.Context, session string, try func() error) error {
	pace := backoff.Policy{Base: 10 * time.Millisecond, Max: 250 * time.Millisecond}
	for failures := 1; ; failures++ {
		err := try()
		if !errors.Is(err, errBetween) {
			return err
		}
		if backoff.Pause(ctx, pace.Delay(failures)); ctx.Err() != nil {
			return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
				"the edge of session %s is lost, or drains, and its client has not come to another yet; try again", session)
		}
	}
}

// isUnknownThere reports whether an edge says that it does not have a session.
func isUnknownThere(err error) bool { return status.Code(err) == codes.NotFound }

// concluded is what a home's answer means to the one who asked.
func concluded(session string, err error) error {
	if status.Code(err) == codes.FailedPrecondition && rpc.Reason(err) == channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN {
		return unknownSession(session)
	}
	return err
}

func unknownSession(session string) error {
	return rpc.Error(codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN,
		"session %s does not exist, or no longer", session)
}

// callEdge calls an edge, as long as ctx lets it.
func (p *pubsub) callEdge(ctx context.Context, edge membership.Node, call edgeCall) error {
	conn, err := p.deps.Conns.Conn(edge.Addr)
	if err != nil {
		return unavailable("edge", edge, err)
	}
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
