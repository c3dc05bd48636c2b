package hold

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// readerSize is how much net/http's reader asks for when it holds nothing.
const readerSize = 4 << 10

// lease is a connection in the hands of net/http: a [net.Conn] that blocks. It
// ends when the connection is closed, parked, or given back: where net/http
// would wait for a request it is told that the connection ended, so that it
// lets go of its goroutine and buffers, and closes the lease.
type lease struct {
	conn    *conn
	writing sync.Mutex // held by one Write

	// Guarded by conn.mu.
	changed               sync.Cond
	early                 []byte // read before what the connection has
	read                  int64  // bytes
	head                  int64  // bytes of the first request's head; 0: unknown
	scan                  scan   // for head
	readUntil, writeUntil time.Time
	readTimer, writeTimer *time.Timer
	resting               bool // between requests
	multiplexed           bool // HTTP/2, which reads as it likes
	back                  bool // to be given back
}

func newLease(c *conn) *lease {
	l := &lease{conn: c}
	l.changed.L = &c.mu
	return l
}

// Read implements [net.Conn].
func (l *lease) Read(p []byte) (int, error) {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.lease != l:
			return 0, net.ErrClosed
		case past(l.readUntil):
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(l.early) > 0:
			n := copy(p, l.early)
			l.early = l.early[n:]
			return l.tookLocked(p[:n]), nil
		}
		if c.readable {
			n, err := c.readLocked(p)
			switch {
			case errors.Is(err, unix.EAGAIN):
			case err != nil:
				return 0, l.failure("read", err)
			case n == 0:
				return 0, io.EOF
			default:
				return l.tookLocked(p[:n]), nil
			}
		}
		if l.back || l.idleLocked(len(p)) {
			l.back = true
			return 0, io.EOF
		}
		l.waitLocked(l.readUntil, &l.readTimer)
	}
}

func past(t time.Time) bool { return !t.IsZero() && !t.After(time.Now()) }

func (l *lease) tookLocked(p []byte) int {
	if l.read == 0 {
		l.multiplexed = p[0] == 'P' && (len(p) == 1 || p[1] == 'R')
	}
	if end := l.scan.end(p); end > 0 {
		l.head = l.read + int64(end)
	}
	l.read += int64(len(p))
	l.resting = false
	l.conn.fresh = false
	return len(p)
}

// idleLocked reports whether a request is waited for of which there is nothing,
// neither here nor in the reader that asks for n bytes.
func (l *lease) idleLocked(n int) bool {
	return l.read == 0 || l.resting && n == readerSize && !l.multiplexed
}

// waitLocked waits until something changed, or until then.
func (l *lease) waitLocked(until time.Time, timer **time.Timer) {
	switch {
	case until.IsZero():
	case *timer == nil:
		*timer = time.AfterFunc(time.Until(until), l.wake)
	default:
		(*timer).Reset(time.Until(until))
	}
	l.changed.Wait()
}

func (l *lease) wake() {
	l.conn.mu.Lock()
	defer l.conn.mu.Unlock()
	l.changed.Broadcast()
}

// endLocked ends the lease.
func (l *lease) endLocked() {
	l.changed.Broadcast()
	for _, t := range []*time.Timer{l.readTimer, l.writeTimer} {
		if t != nil {
			t.Stop()
		}
	}
}

// Write implements [net.Conn].
func (l *lease) Write(p []byte) (n int, err error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.lease != l:
			return n, net.ErrClosed
		case past(l.writeUntil):
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		case !c.writable:
			l.waitLocked(l.writeUntil, &l.writeTimer)
			continue
		}
		k, err := c.writeLocked(p[n:])
		n += k
		if err != nil {
			return n, l.failure("write", err)
		}
	}
}

func (l *lease) failure(op string, err error) error {
	return &net.OpError{
		Op: op, Net: "tcp", Source: l.LocalAddr(), Addr: l.RemoteAddr(), Err: os.NewSyscallError(op, err),
	}
}

// Close implements [net.Conn].
func (l *lease) Close() error {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease != l {
		return net.ErrClosed
	}
	if !l.back {
		c.closeLocked()
		return nil
	}
	l.releaseLocked()
	c.restLocked()
	return nil
}

// releaseLocked takes the connection out of net/http's hands.
func (l *lease) releaseLocked() {
	l.endLocked()
	l.conn.lease = nil
}

// CloseWrite tells the peer that nothing more comes.
func (l *lease) CloseWrite() error {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease != l {
		return net.ErrClosed
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(int(c.fd), unix.SHUT_WR))
}

// LocalAddr implements [net.Conn]. It is the address that is listened on.
func (l *lease) LocalAddr() net.Addr { return l.conn.door.Addr() }

// RemoteAddr implements [net.Conn].
func (l *lease) RemoteAddr() net.Addr { return &l.conn.peer }

// SetDeadline implements [net.Conn].
func (l *lease) SetDeadline(t time.Time) error { return l.limit(t, &l.readUntil, &l.writeUntil) }

// SetReadDeadline implements [net.Conn].
func (l *lease) SetReadDeadline(t time.Time) error { return l.limit(t, &l.readUntil) }

// SetWriteDeadline implements [net.Conn].
func (l *lease) SetWriteDeadline(t time.Time) error { return l.limit(t, &l.writeUntil) }

func (l *lease) limit(t time.Time, which ...*time.Time) error {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease != l {
		return net.ErrClosed
	}
	for _, until := range which {
		*until = t
	}
	l.changed.Broadcast()
	return nil
}
