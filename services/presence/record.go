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

const (
	// readyWithin is how long a call waits until it can be answered.
	readyWithin = 5 * time.Second
	// rowWithin is how long it waits if another process is the first holder: the
	// caller may have heard of a change first.
	rowWithin = time.Second
)

// records is what edges ask of sessions.
type records struct {
	edgev1.UnimplementedRecordServiceServer
	service *Service
}

// Locate implements [edgev1.RecordServiceServer].
func (r *records) Locate(ctx context.Context, req *edgev1.LocateRequest) (*edgev1.LocateResponse, error) {
	if req.GetSession() == "" {
		return nil, invalid("session is required")
	}
	var at holder.Located
	err := r.service.ask(ctx, func(h *holder.Holder) (err error) {
		at, err = h.Locate(req.GetSession())
		return err
	})
	if err != nil && !errors.Is(err, holder.ErrOver) {
		return nil, toStatus(err)
	}
	return &edgev1.LocateResponse{Home: at.Home, Generation: encodeGeneration(at.Generation), Lost: at.Lost}, nil
}

// Claim implements [edgev1.RecordServiceServer].
func (r *records) Claim(ctx context.Context, req *edgev1.ClaimRequest) (*edgev1.ClaimResponse, error) {
	if req.GetSession() == "" {
		return nil, invalid("session is required")
	}
	if err := checkMember(req.GetEdge()); err != nil {
		return nil, invalid("%v", err)
	}
	var got holder.Claimed
	err := r.service.ask(ctx, func(h *holder.Holder) (err error) {
		got, err = h.Claim(req.GetSession(), req.GetEdge(), decodeGeneration(req.GetExpected()), time.Now())
		return err
	})
	if err != nil {
		return nil, toStatus(err)
	}
	resp := &edgev1.ClaimResponse{Generation: encodeGeneration(got.Generation), Previous: got.Previous, State: encodeState(got.State)}
	if got.Vector != nil {
		resp.Vector = &edgev1.Vector{Offsets: got.Vector}
	}
	return resp, nil
}

// ask asks the holder, once it can answer.
func (s *Service) ask(ctx context.Context, question func(*holder.Holder) error) error {
	waits := func(until ...error) func() (bool, error) {
		return func() (bool, error) {
			err := question(s.holder)
			for _, target := range until {
				if errors.Is(err, target) {
					return false, err
				}
			}
			return true, err
		}
	}
	err := s.wait(ctx, rowWithin, waits(holder.ErrNotFirst, holder.ErrNotReady, holder.ErrAbsent))
	if errors.Is(err, holder.ErrNotReady) || errors.Is(err, holder.ErrAbsent) {
		err = s.wait(ctx, readyWithin-rowWithin, waits(holder.ErrNotReady, holder.ErrAbsent))
	}
	return err
}

// toStatus says what a holder's refusals are on the wire.
func toStatus(err error) error {
	var stale *holder.StaleError
	switch {
	case errors.As(err, &stale):
		return rpc.Error(codes.Aborted, channelv1.ErrorReason_ERROR_REASON_MOVED, "%v", err)
	case errors.Is(err, holder.ErrNotFirst):
		return rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_MOVED, "%v", err)
	case errors.Is(err, holder.ErrNotReady), errors.Is(err, holder.ErrAbsent):
		return notReady("%v; try again", err)
	case errors.Is(err, holder.ErrUnknown), errors.Is(err, holder.ErrOver):
		return rpc.Error(codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN, "%v", err)
	}
	return err
}

func encodeState(st holder.State) *edgev1.SessionState {
	return &edgev1.SessionState{
		User: st.User, Transport: st.Transport, Since: timestamppb.New(st.Since), Channels: st.Channels,
		Generation: encodeGeneration(st.Generation), AdoptableMs: uint32(st.Adoptable.Milliseconds()), Resume: st.Resume,
	}
}
