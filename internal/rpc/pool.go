package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Pool keeps one client connection for each address. A connection connects
// with its first call, again within a second when it broke, and rests after a
// minute without calls; a dead peer is noticed after 13 seconds. Safe for
// concurrent use.
type Pool struct {
	opts []grpc.DialOption

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	closed bool
}

// crowd is how many connections a pool keeps before it looks for idle ones:
// addresses of pods that are gone would pile up for ever.
const crowd = 256

// NewPool returns a pool. A nil dial is TCP. Options come after, and so win
// over, the pool's own.
func NewPool(dial func(ctx context.Context, addr string) (net.Conn, error), opts ...grpc.DialOption) *Pool {
	if dial == nil {
		dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", addr)
		}
	}
	own := []grpc.DialOption{
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithIdleTimeout(time.Minute),
		grpc.WithDisableServiceConfig(),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxResponse)),
	}
	return &Pool{opts: append(own, opts...), conns: map[string]*grpc.ClientConn{}}
}

// Conn returns the connection to an address, host:port. It does not wait until
// it is connected. The pool closes it.
func (p *Pool) Conn(addr string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[addr]; ok {
		return c, nil
	}
	if p.closed {
		return nil, errors.New("connection pool is closed")
	}
	p.dropIdleLocked()
	// passthrough: the dialer resolves names, on every attempt.
	c, err := grpc.NewClient("passthrough:///"+addr, p.opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	p.conns[addr] = c
	return c, nil
}

func (p *Pool) dropIdleLocked() {
	if len(p.conns) < crowd {
		return
	}
	for addr, c := range p.conns {
		if c.GetState() == connectivity.Idle {
			_ = c.Close() // only says that it was closed before
			delete(p.conns, addr)
		}
	}
}

// Close closes all connections; calls on them fail.
func (p *Pool) Close() error {
	p.mu.Lock()
	conns := p.conns
	p.conns, p.closed = nil, true
	p.mu.Unlock()
	var errs []error
	for addr, c := range conns { // may wait for a peer that reads nothing
		if err := c.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close connection to %s: %w", addr, err))
		}
	}
	return errors.Join(errs...)
}

// Len is the number of connections kept.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}
