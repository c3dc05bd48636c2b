package transport

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
)

// Accept serves a stream that another member opened, until it ends. It is the
// Replicate method of a broker.
func (m *Mesh) Accept(call grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse]) error {
	m.mu.Lock()
	running := m.running
	if running == nil {
		m.mu.Unlock()
		return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY,
			"this broker does not replicate now; try again")
	}
	m.tasks.Add(1)
	m.mu.Unlock()
	defer m.tasks.Done()

	s := m.newStream(context.WithCancelCause(call.Context()))
	defer s.cancel(nil)
	s.pipe = accepterPipe{call}
	defer context.AfterFunc(running, func() { s.end(Stopped, context.Cause(running)) })()
	return toStatus(s.converse())
}

// toStatus is what the member that opened a stream is told when it ends here.
func toStatus(e *ending) error {
	switch e.why {
	case Stopped:
		return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING, "%v", e)
	case Invalid, Stranger, Version:
		return status.Error(codes.InvalidArgument, e.Error())
	case Broken:
		if errors.Is(e, context.Canceled) {
			return status.Error(codes.Canceled, e.Error())
		}
	}
	return status.Error(codes.Aborted, e.Error())
}
