package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/run"
)

// Domain is the domain of every ErrorInfo that Comet sends.
const Domain = "comet"

const reasonPrefix = "ERROR_REASON_"

// ReasonName is the reason as it travels: without its prefix, for example
// HISTORY_LOST.
func ReasonName(r channelv1.ErrorReason) string {
	return strings.TrimPrefix(r.String(), reasonPrefix)
}

// Error returns a gRPC status error that carries a reason. The message is for
// people: it says what is wrong and what would be right.
func Error(code codes.Code, reason channelv1.ErrorReason, format string, args ...any) error {
	st := status.New(code, fmt.Sprintf(format, args...))
	if withInfo, err := st.WithDetails(&errdetails.ErrorInfo{Reason: ReasonName(reason), Domain: Domain}); err == nil {
		st = withInfo
	}
	return st.Err()
}

// Reason returns the reason an error of [Error] carries, on either side of a
// call and however wrapped; UNSPECIFIED if it carries none.
func Reason(err error) channelv1.ErrorReason {
	st, ok := status.FromError(err)
	if !ok || st == nil {
		return channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return channelv1.ErrorReason(channelv1.ErrorReason_value[reasonPrefix+info.GetReason()])
		}
	}
	return channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

// toStatus makes errors that handlers return for want of better into statuses.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, run.ErrDraining):
		return Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING,
			"this process is shutting down; go to another")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return err
}
