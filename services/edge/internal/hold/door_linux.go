package hold

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// door is a listener of an engine. Accept returns a connection when there is
// something to read on it.
type door struct {
	engine *Engine          // static, as are the next two
	inner  *net.TCPListener // for its address, and to be closed
	file   *os.File         // the same socket, to accept from

	closed atomic.Bool // set under mu

	mu    sync.Mutex // leaf
	some  sync.Cond  // of mu
	ready []*lease   // guarded by mu
}

// newDoor makes a listener the engine's. What it accepts inherits its options.
func newDoor(e *Engine, l *net.TCPListener) (*door, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("use listener: %w", err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = setOptions(int(fd)) }); err != nil || failed != nil {
		return nil, fmt.Errorf("set options of listener: %w", errors.Join(err, failed))
	}
	// The listener itself accepts for nobody else, so it takes another file.
	file, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("share listener: %w", err)
	}
	d := &door{engine: e, inner: l, file: file}
	d.some.L = &d.mu
	return d, nil
}

func setOptions(fd int) error {
	const probe, probes = 15, 9 // as net's default has it
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, probe},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, probe},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, probes},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// Accept implements [net.Listener].
func (d *door) Accept() (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.ready) == 0 {
		if d.closed.Load() {
			return nil, net.ErrClosed
		}
		d.some.Wait()
	}
	l := d.ready[0]
	d.ready[0] = nil
	if d.ready = d.ready[1:]; len(d.ready) == 0 {
		d.ready = nil
	}
	return l, nil
}

// push has a connection accepted; false: the door is closed.
func (d *door) push(l *lease) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return false
	}
	d.ready = append(d.ready, l)
	d.some.Signal()
	return true
}

// Close implements [net.Listener]. Connections without a request are closed;
// parked ones will be behind their answers.
func (d *door) Close() error {
	d.mu.Lock()
	if d.closed.Load() {
		d.mu.Unlock()
		return net.ErrClosed
	}
	d.closed.Store(true)
	unserved := d.ready
	d.ready = nil
	d.some.Broadcast()
	d.mu.Unlock()

	err := errors.Join(d.file.Close(), d.inner.Close())
	for _, l := range unserved {
		_ = l.Close() // it may have ended by itself
	}
	for _, c := range d.engine.all() {
		c.mu.Lock()
		if c.door == d && c.state == idle {
			c.closeLocked()
		}
		c.mu.Unlock()
	}
	return err
}

// Addr implements [net.Listener].
func (d *door) Addr() net.Addr { return d.inner.Addr() }

// accept takes connections on until the door closes or ctx ends.
func (d *door) accept(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = d.file.SetReadDeadline(time.Unix(1, 0)) })()
	raw, err := d.file.SyscallConn()
	if err != nil {
		return d.ended(ctx, err)
	}
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			for {
				var more bool
				if more, failed = d.acceptOne(int(fd)); failed != nil {
					return true
				}
				if !more {
					pause = shortest
					return false
				}
			}
		})
		if err != nil {
			return d.ended(ctx, err)
		}
		// There are no descriptors or there is no memory, perhaps soon.
		d.engine.cfg.Failed(fmt.Errorf("accept connection: %w", failed))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, longest)
		}
	}
}

func (d *door) ended(ctx context.Context, err error) error {
	if !d.closed.Load() && ctx.Err() == nil {
		return fmt.Errorf("accept connections: %w", err)
	}
	return nil // it was to end
}

// acceptOne takes a connection on if one waits.
func (d *door) acceptOne(fd int) (more bool, err error) {
	nfd, peer, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		return true, nil
	case err != nil:
		return false, os.NewSyscallError("accept4", err)
	}
	e := d.engine
	// What was sent to a peer that vanished waits in the kernel, a little longer
	// than here, where a slow peer is to be noticed. Not all kinds of sockets
	// have this.
	_ = unix.SetsockoptInt(nfd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int((e.cfg.WriteTimeout * 3 / 2).Milliseconds()))
	c := &conn{worker: e.worker(nfd), door: d, fd: int32(nfd), peer: newPeer(peer), fresh: true, writable: true}
	c.readBy.Store(e.in(e.cfg.HeaderTimeout))
	if err := c.worker.add(c); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.closeLocked()
		return false, err
	}
	e.occupied()
	return true, nil
}
