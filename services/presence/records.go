package presence

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/presence/internal/holder"
)

// patience is how long a call waits until every edge has been heard.
const patience = 5 * time.Second

// records is what edges call about sessions.
type records struct {
	edgev1.UnimplementedRecordServiceServer
	service *Service
}

// Locate implements [edgev1.RecordServiceServer].
func (r *records) Locate(ctx context.Context, req *edgev1.LocateRequest) (*edgev1.LocateResponse, error) {
	var found holder.Located
	err := r.service.settle(ctx, req.GetSession(), func() (err error) {
		found, err = r.service.holder.Locate(req.GetSession())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &edgev1.LocateResponse{
		Home: found.Home, Generation: encodeGeneration(found.Generation), Lost: found.Lost,
	}, nil
}

// Claim implements [edgev1.RecordServiceServer].
func (r *records) Claim(ctx context.Context, req *edgev1.ClaimRequest) (*edgev1.ClaimResponse, error) {
	if err := checkMember(req.GetEdge()); err != nil {
		return nil, invalid("%v", err)
	}
	var claimed holder.Claimed
	err := r.service.settle(ctx, req.GetSession(), func() (err error) {
		claimed, err = r.service.holder.Claim(req.GetSession(), req.GetEdge(), decodeGeneration(req.GetExpected()), time.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	r.service.metrics.claims.Inc()
	st := claimed.State
	return &edgev1.ClaimResponse{
		Generation: encodeGeneration(claimed.Generation), Previous: claimed.Previous,
		State: &edgev1.SessionState{
			User: st.User, Transport: st.Transport, Since: timestamppb.New(st.Since), Channels: st.Channels,
			Generation: encodeGeneration(st.Generation), AdoptableMs: uint32(st.Adoptable.Milliseconds()), Resume: st.Resume,
		},
		Vector: &edgev1.Vector{Offsets: claimed.Vector},
	}, nil
}

// settle asks the holder, again for a while as long as it is not ready.
func (s *Service) settle(ctx context.Context, session string, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		s.mu.Lock()
		err := ask()
		changed := s.changed
		s.mu.Unlock()
		if !errors.Is(err, holder.ErrNotReady) && !errors.Is(err, holder.ErrAbsent) {
			return recordError(session, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return recordError(session, err)
		}
	}
}

// recordError is how edges are told.
func recordError(session string, err error) error {
	var stale *holder.StaleError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, holder.ErrUnknown), errors.Is(err, holder.ErrOver):
		return rpc.Error(codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN,
			"session %s does not exist, or no longer", session)
	case errors.Is(err, holder.ErrNotFirst):
		return rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_MOVED,
			"another presence process answers for session %s", session)
	case errors.As(err, &stale):
		return rpc.Error(codes.Aborted, channelv1.ErrorReason_ERROR_REASON_MOVED, "%v", err)
	}
	return notReady("%v; try again", err)
}
