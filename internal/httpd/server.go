// Package httpd is the HTTP doors of a process: servers that hold requests for
// as long as it takes, and the internal door with REST, metrics and health.
//
//  1. A server puts no limit on how long an answer takes; it limits how long
//     headers take and how long a connection rests.
//  2. When a server drains, its doors close, the contexts of requests end with
//     cause run.ErrDraining, and what is not answered after its grace is cut.
//  3. REST carries data and ext as plain JSON, byte for byte; only in streams,
//     where an object is a line, line breaks between tokens become spaces.
package httpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/comet-push/comet/internal/run"
)

// ServerConfig says how an HTTP server behaves.
type ServerConfig struct {
	// Grace is how long requests may go on after the drain began.
	Grace time.Duration
	// TLSCertFile and TLSKeyFile turn TLS on; PEM.
	TLSCertFile, TLSKeyFile string
	// H2C allows HTTP/2 without TLS.
	H2C bool
	// ConnContext and ConnState are those of [http.Server]. They may be nil.
	ConnContext func(ctx context.Context, c net.Conn) context.Context
	ConnState   func(c net.Conn, s http.ConnState)
	// Logger gets what goes wrong with connections, at level debug; nil: none.
	Logger *slog.Logger
}

const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
)

// Server is an HTTP server with a lifecycle.
type Server struct {
	cfg      ServerConfig
	handler  http.Handler
	listener net.Listener
}

// NewServer returns a server for a listener, which Run closes.
func NewServer(cfg ServerConfig, handler http.Handler, listener net.Listener) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, handler: handler, listener: listener}
}

// Run serves until ctx ends, then drains.
func (s *Server) Run(ctx context.Context) error {
	requests, drain := context.WithCancelCause(context.WithoutCancel(ctx))
	defer drain(nil)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(s.cfg.H2C)
	srv := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		Protocols:         protocols,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ConnContext:       s.cfg.ConnContext,
		ConnState:         s.cfg.ConnState,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- s.serve(srv) }()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("serve HTTP: %w", err), srv.Close())
	case <-ctx.Done():
	}

	drain(run.ErrDraining)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Grace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		if err := srv.Close(); err != nil {
			return fmt.Errorf("close HTTP server: %w", err)
		}
	}
	<-served // ErrServerClosed
	return nil
}

func (s *Server) serve(srv *http.Server) error {
	if s.cfg.TLSCertFile != "" {
		return srv.ServeTLS(s.listener, s.cfg.TLSCertFile, s.cfg.TLSKeyFile)
	}
	return srv.Serve(s.listener)
}
