// Package rpc is gRPC as Comet uses it: servers with health, keepalive, limits
// and a goodbye; connections that come back soon; errors with reasons.
//
//  1. A server that drains says no (health), goodbye (the contexts of streams
//     end with cause run.ErrDraining, calls go on), waits for its grace, and
//     then insists.
//  2. A handler that returns the cause of such a context, or run.ErrDraining,
//     answers UNAVAILABLE with reason DRAINING.
//  3. A handler that panics answers INTERNAL, and the process lives on.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/comet-push/comet/internal/run"
)

const (
	// MaxRequest is the largest message a server takes, in bytes: a body of
	// 1 MiB and the envelope around it.
	MaxRequest = 1<<20 + 64<<10
	// MaxResponse is the largest message a connection of a pool takes, in bytes.
	MaxResponse = 16 << 20

	// How much may be under way unread. They are fixed: a window that follows the
	// network's measure costs a ping and its answer with every burst of messages.
	streamWindow = 256 << 10
	connWindow   = 4 << 20

	maxStreams       = 10_000 // of one connection
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 3 * time.Second
)

// ServerConfig says how a server behaves.
type ServerConfig struct {
	// Grace is how long calls may go on after the drain began.
	Grace time.Duration
	// Ready, if set, says why the server should not get calls; the health
	// service follows it within a second.
	Ready func() error
	// Reflection lets tools ask what is served here.
	Reflection bool
	// MaxRequest is the largest request in bytes; 0: MaxRequest.
	MaxRequest int
	// Options are further options of the gRPC server.
	Options []grpc.ServerOption
	// Logger gets panics; nil: none.
	Logger *slog.Logger
}

// Server is a gRPC server with a lifecycle. Register services on it before Run.
type Server struct {
	cfg       ServerConfig
	grpc      *grpc.Server
	health    *health.Server
	drain     context.CancelCauseFunc
	listeners []net.Listener
	reported  healthv1.HealthCheckResponse_ServingStatus // Run's own
}

// NewServer returns a server that will serve on the listeners; Run closes them.
func NewServer(cfg ServerConfig, listeners ...net.Listener) *Server {
	if cfg.MaxRequest == 0 {
		cfg.MaxRequest = MaxRequest
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	draining, drain := context.WithCancelCause(context.Background())
	calls := interceptor{draining: draining, logger: cfg.Logger}
	s := &Server{cfg: cfg, health: health.NewServer(), drain: drain, listeners: listeners}
	s.grpc = grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(cfg.MaxRequest),
		grpc.MaxHeaderListSize(64 << 10),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: keepaliveTime / 2, PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.ChainUnaryInterceptor(calls.unary),
		grpc.ChainStreamInterceptor(calls.stream),
	}, cfg.Options...)...)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
	return s
}

// RegisterService implements [grpc.ServiceRegistrar].
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(desc, impl)
}

// Run serves until ctx ends, then drains.
func (s *Server) Run(ctx context.Context) error {
	s.reportHealth()
	served := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		go func() { served <- s.serve(l) }()
	}
	err := s.watch(ctx, served)
	s.shutdown()
	for range s.listeners {
		err = errors.Join(err, <-served)
	}
	return err
}

// serve serves one door; being stopped before it began is no failure.
func (s *Server) serve(l net.Listener) error {
	if err := s.grpc.Serve(l); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// watch keeps the health service true until ctx ends or a listener fails.
func (s *Server) watch(ctx context.Context, served chan error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			served <- nil // it will be waited for once more
			return fmt.Errorf("serve gRPC: %w", err)
		case <-tick.C:
			s.reportHealth()
		}
	}
}

func (s *Server) shutdown() {
	s.health.Shutdown()
	stopped := make(chan struct{})
	cutoff := time.AfterFunc(s.cfg.Grace, func() {
		s.grpc.Stop()
		close(stopped)
	})
	s.drain(run.ErrDraining)
	s.grpc.GracefulStop()
	if !cutoff.Stop() {
		<-stopped
	}
}

// reportHealth tells the health service when readiness has changed.
func (s *Server) reportHealth() {
	state := healthv1.HealthCheckResponse_SERVING
	if s.cfg.Ready != nil && s.cfg.Ready() != nil {
		state = healthv1.HealthCheckResponse_NOT_SERVING
	}
	if state == s.reported {
		return
	}
	s.reported = state
	s.health.SetServingStatus("", state)
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, state)
	}
}
