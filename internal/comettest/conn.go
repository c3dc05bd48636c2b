package comettest

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes may be under way in one direction.
const window = 256 << 10

// userTimeout is after how long a peer that confirms nothing is given up, as
// the kernel does.
const userTimeout = 15 * time.Second

// conn is one end of a connection. All fields but the first four are guarded
// by the network's mutex.
type conn struct {
	net           *Network
	link          link
	local, remote address
	peer          *conn

	wake             *sync.Cond
	in               []packet // what the peer wrote, in order
	size             int      // bytes of in
	closed, broken   bool
	alone            bool // the peer's machine is gone
	reading, writing deadline
	unconfirmed      *time.Timer // with alone: since something was sent
}

// packet is what one Write wrote, or with eof the end.
type packet struct {
	due  time.Time
	data []byte
	eof  bool
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (n *Network) connect(k link, local, remote address) (near, far *conn) {
	near = &conn{net: n, link: k, local: local, remote: remote, wake: sync.NewCond(&n.mu)}
	far = &conn{net: n, link: k, local: remote, remote: local, wake: sync.NewCond(&n.mu)}
	near.peer, far.peer = far, near
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	return near, far
}

func (c *conn) Read(b []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.broken:
			return 0, fmt.Errorf("read: %w", syscall.ECONNRESET)
		case c.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case c.arrivedLocked():
			if c.in[0].eof {
				return 0, io.EOF
			}
			k := copy(b, c.in[0].data)
			if c.in[0].data = c.in[0].data[k:]; len(c.in[0].data) == 0 {
				c.in = c.in[1:]
			}
			c.size -= k
			c.peer.wake.Broadcast()
			return k, nil
		}
		c.wake.Wait()
	}
}

// arrivedLocked reports whether the first packet is there.
func (c *conn) arrivedLocked() bool {
	return len(c.in) > 0 && !c.net.closedLocked(c.remote.host(), c.local.host()) && !time.Now().Before(c.in[0].due)
}

func (c *conn) Write(b []byte) (written int, err error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for len(b) > 0 {
		switch room := window - c.peer.size; {
		case c.closed:
			return written, net.ErrClosed
		case c.broken:
			return written, fmt.Errorf("write: %w", syscall.EPIPE)
		case c.alone:
			c.giveUpLocked()
			return written + len(b), nil
		case c.peer.closed && !c.net.closedLocked(c.remote.host(), c.local.host()):
			c.broken = true
		case c.writing.passed():
			return written, os.ErrDeadlineExceeded
		case room == 0:
			c.wake.Wait()
		default:
			k := min(room, len(b))
			c.sendLocked(packet{data: append([]byte(nil), b[:k]...)})
			b = b[k:]
			written += k
		}
	}
	return written, nil
}

// sendLocked puts a packet on its way.
func (c *conn) sendLocked(p packet) {
	p.due = time.Now()
	if delay := c.net.routes[route{c.local.host(), c.remote.host()}].delay; delay > 0 {
		p.due = p.due.Add(delay)
		time.AfterFunc(delay, c.peer.wakeUp)
	}
	c.peer.in = append(c.peer.in, p)
	c.peer.size += len(p.data)
	c.peer.wake.Broadcast()
}

func (c *conn) wakeUp() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.wake.Broadcast()
}

func (c *conn) wakeLocked() { c.wake.Broadcast() }

func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	if !c.broken {
		c.sendLocked(packet{eof: true})
	}
	c.forgetLocked()
	return nil
}

func (c *conn) reset() {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.resetLocked()
}

// resetLocked breaks both ends.
func (c *conn) resetLocked() {
	for _, end := range []*conn{c, c.peer} {
		end.broken = true
		end.forgetLocked()
	}
}

// giveUpLocked breaks the connection when nothing has been confirmed for long.
func (c *conn) giveUpLocked() {
	if c.unconfirmed == nil {
		c.unconfirmed = time.AfterFunc(userTimeout, c.reset)
	}
}

func (c *conn) forgetLocked() {
	delete(c.net.conns, c)
	if c.unconfirmed != nil {
		c.unconfirmed.Stop()
	}
	for _, d := range []*deadline{&c.reading, &c.writing} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
	c.wake.Broadcast()
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	c.set(&c.reading, t)
	c.set(&c.writing, t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error  { c.set(&c.reading, t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.set(&c.writing, t); return nil }

func (c *conn) set(d *deadline, t time.Time) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if !t.IsZero() && !c.closed && !c.broken {
		d.timer = time.AfterFunc(time.Until(t), c.wakeUp)
	}
	c.wake.Broadcast()
}
