package transport

import (
	"context"
	"time"

	"google.golang.org/grpc"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/backoff"
)

// dialer keeps a stream to one member.
type dialer struct {
	member, addr string
	cancel       context.CancelFunc // nil: not started
	before       <-chan struct{}    // closed when the one for an older address has ended; nil: there is none
	done         chan struct{}      // closed when it has ended

	wanted bool // guarded by Mesh.mu
}

// wantLocked makes sure that there is a dialer.
func (m *Mesh) wantLocked(member, addr string) {
	old := m.dialers[member]
	if old != nil && old.addr == addr {
		old.wanted = true
		return
	}
	d := &dialer{member: member, addr: addr, wanted: true, done: make(chan struct{})}
	if old != nil {
		d.before = old.before
		if old.cancel != nil {
			old.cancel()
			d.before = old.done
		}
	}
	m.dialers[member] = d
	if m.running != nil {
		m.startLocked(m.running, d)
	}
}

// dropLocked ends a dialer.
func (m *Mesh) dropLocked(d *dialer) {
	if m.dialers[d.member] == d {
		delete(m.dialers, d.member)
	}
	if d.cancel != nil {
		d.cancel()
	}
}

func (m *Mesh) startLocked(ctx context.Context, d *dialer) {
	ctx, cancel := context.WithCancel(ctx)
	d.cancel = cancel
	m.tasks.Go(func() {
		defer close(d.done)
		defer cancel()
		if d.before != nil {
			<-d.before
		}
		m.keep(ctx, d)
	})
}

// keep opens streams to a member, one after the other.
func (m *Mesh) keep(ctx context.Context, d *dialer) {
	again := backoff.Policy{Base: 50 * time.Millisecond, Max: time.Second}
	failures := 0
	for m.wants(ctx, d) {
		if m.dial(ctx, d) >= again.Max {
			failures = 0
		}
		failures++
		backoff.Pause(ctx, again.Delay(failures))
	}
}

func (m *Mesh) wants(ctx context.Context, d *dialer) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil || !d.wanted {
		m.dropLocked(d)
		return false
	}
	return true
}

// dial opens a stream and returns, once it has ended, for how long it was up.
func (m *Mesh) dial(ctx context.Context, d *dialer) time.Duration {
	conn, err := m.cfg.Conns.Conn(d.addr)
	if err != nil {
		return 0
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := m.newStream(ctx, cancel)
	s.member, s.caller = d.member, true
	defer s.tasks.Wait()
	defer cancel(nil)
	call, err := brokerv1.NewBrokerServiceClient(conn).Replicate(ctx, grpc.WaitForReady(true))
	if err != nil {
		return 0 // there was no connection until ctx ended
	}
	s.pipe, s.number = callerPipe{call}, m.nextNumber(time.Now())
	_ = s.converse() // is reported
	return s.lived
}

// nextNumber returns the number of the next stream: higher than those before,
// also of an earlier life of this member.
func (m *Mesh) nextNumber(now time.Time) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.number = max(m.number+1, uint64(now.UnixNano()))
	return m.number
}
