package etcd

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"
)

// link knows whether etcd answers, and says so in the log once per change.
type link struct {
	log       *slog.Logger
	endpoints []string
	dial      func(ctx context.Context, addr string) (net.Conn, error)

	mu      sync.Mutex
	refused error // of the last dial; nil if it went well
	since   time.Time
}

// connect opens a connection and remembers why it could not: a call that timed
// out does not know.
func (l *link) connect(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := l.dial(ctx, addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = err
	return conn, err
}

// failed notes that a read was not answered.
func (l *link) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.since.IsZero() {
		return
	}
	l.since = time.Now()
	if l.refused != nil {
		err = l.refused
	}
	l.log.Warn("etcd cannot be followed; going on with what is known and trying again",
		slog.Any("endpoints", l.endpoints), slog.Any("error", err),
		slog.String("hint", "check that etcd runs and that --etcd.endpoints names it"))
}

// answered notes that one was.
func (l *link) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return
	}
	l.log.Info("etcd answers again", slog.Duration("after", time.Since(l.since)))
	l.since = time.Time{}
}
