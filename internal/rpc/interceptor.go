package rpc

import (
	"context"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// interceptor is around every call of a server.
type interceptor struct {
	draining context.Context //nolint:containedctx // not a call: it ends with the cause that streams are to see
	logger   *slog.Logger
}

func (i interceptor) unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
) (_ any, err error) {
	defer i.recovered(info.FullMethod, &err)
	resp, err := next(ctx, req)
	return resp, toStatus(err)
}

func (i interceptor) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer i.recovered(info.FullMethod, &err)
	ctx, cancel := context.WithCancelCause(context.WithValue(ss.Context(), goneKey{}, ss.Context().Done()))
	defer cancel(nil)
	stop := context.AfterFunc(i.draining, func() { cancel(context.Cause(i.draining)) })
	defer stop()
	return toStatus(next(srv, drainedStream{ss, ctx}))
}

func (i interceptor) recovered(method string, err *error) {
	if p := recover(); p != nil {
		i.logger.Error("call panicked", slog.String("method", method), slog.Any("panic", p),
			slog.String("stack", string(debug.Stack())))
		*err = status.Error(codes.Internal, "internal error; the server's log says more")
	}
}

type goneKey struct{}

// Gone returns a channel that is closed when the call ends that a stream's
// context is of: its peer has gone, or the server's patience with it is over.
// The context itself ends with the drain that may precede that; whoever goes on
// after it goes on until then.
func Gone(ctx context.Context) <-chan struct{} {
	gone, _ := ctx.Value(goneKey{}).(<-chan struct{})
	return gone
}

// drainedStream is a stream whose context also ends with the server.
type drainedStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream is a call
}

func (s drainedStream) Context() context.Context { return s.ctx }
