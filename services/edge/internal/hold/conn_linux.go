package hold

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// state is what a connection is doing.
type state uint8

const (
	idle      state = iota // waits for a request
	serving                // net/http has it, by a lease
	exchange               // an exchange is parked on it
	streaming              // a stream is its response
	upgraded               // it is a WebSocket
	lingers                // all was said; the peer is to close it
	closed
	states
)

// conn is a TCP connection of an engine, from accept to close. There are very
// many of them, most of which do nothing: the struct is as small as it can be.
//
// Its descriptor is used only by system calls under mu that were preceded by a
// look at the state there: what the kernel calls by the same number later is
// never touched.
type conn struct {
	worker     *worker // static, as are the next five
	door       *door
	fd         int32
	slot       uint32 // in the worker's table
	generation uint32 // of the slot
	peer       peer

	// What epoll said, and what is true until a system call says otherwise;
	// guarded by mu, as is all below but pending and the limits.
	readable, writable bool
	hungUp             bool // the peer sends no more
	fresh              bool // has sent nothing ever
	old                bool // speaks HTTP/1.0
	last               bool // nothing comes behind the response that is parked

	pending atomic.Bool   // on the worker's list
	readBy  atomic.Uint32 // tick by which something has to come; 0: none
	writeBy atomic.Uint32 // tick by which some of what waits has to go; 0: none

	mu       sync.Mutex
	state    state
	answered bool // the answer of exchange is being written
	reading  bool // somebody reads socket
	lease    *lease
	exchange *Exchange
	stream   *Stream
	socket   *socket
	fields   *string // of the response's head, until that is written
	extra    *extra
}

// extra is what few connections have.
type extra struct {
	early []byte // of the next request
	out   []byte // was to be written, before anything else
}

// peer is an address in little space.
type peer struct {
	ip   [16]byte
	port uint16
}

func newPeer(a unix.Sockaddr) peer {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return peer{netip.AddrFrom4(a.Addr).As16(), uint16(a.Port)}
	case *unix.SockaddrInet6:
		return peer{a.Addr, uint16(a.Port)}
	}
	return peer{}
}

// Network implements [net.Addr].
func (p *peer) Network() string { return "tcp" }

// String implements [net.Addr].
func (p *peer) String() string {
	return netip.AddrPortFrom(netip.AddrFrom16(p.ip).Unmap(), p.port).String()
}

// wake implements [holder]: the worker is to look after the connection.
func (c *conn) wake() {
	if c.pending.CompareAndSwap(false, true) {
		c.worker.push(c)
	}
}

func (c *conn) spares() *spares { return &c.worker.spares }

func (c *conn) enterLocked(s state) {
	counts := &c.worker.engine.counts
	counts[c.state].Add(-1)
	counts[s].Add(1)
	c.state = s
}

// ending is whom to tell about the end of a connection, once its lock is free.
type ending struct {
	exchange *Exchange
	stream   *Stream
}

func (e ending) tell() {
	if e.exchange != nil {
		e.exchange.over(false)
	}
	if e.stream != nil {
		e.stream.over(false)
	}
}

// closeLocked closes the connection. The ending has to be told.
func (c *conn) closeLocked() ending {
	if c.state == closed {
		return ending{}
	}
	e := ending{c.exchange, c.stream}
	c.exchange, c.stream, c.socket, c.fields, c.extra = nil, nil, nil, nil, nil
	if c.lease != nil {
		c.lease.endLocked()
		c.lease = nil
	}
	c.enterLocked(closed)
	c.readBy.Store(0)
	c.writeBy.Store(0)
	c.worker.remove(c)
	_ = unix.Close(int(c.fd)) // there is nobody to tell
	return e
}

// cutLocked is closeLocked for a reason that is counted if somebody is told.
func (c *conn) cutLocked(reason Reason) ending {
	e := c.closeLocked()
	if e != (ending{}) {
		c.worker.engine.cfg.Cut(reason)
	}
	return e
}

// restLocked waits for the next request, or has it served if it is there.
func (c *conn) restLocked() {
	if c.door.closed.Load() {
		c.closeLocked()
		return
	}
	c.enterLocked(idle)
	timeout := c.worker.engine.cfg.IdleTimeout
	if c.fresh {
		timeout = c.worker.engine.cfg.HeaderTimeout
	}
	c.readBy.Store(c.worker.engine.in(timeout))
	if c.readable || c.extra != nil {
		c.arrivedLocked()
	}
}

// arrivedLocked has net/http serve what came on an idle connection.
func (c *conn) arrivedLocked() {
	if c.hungUp && c.extra == nil && !c.waitsLocked() {
		c.closeLocked()
		return
	}
	c.enterLocked(serving)
	c.readBy.Store(0)
	c.lease = newLease(c)
	if x := c.extra; x != nil {
		c.lease.early, c.extra = x.early, nil
	}
	if !c.door.push(c.lease) {
		c.closeLocked()
	}
}

// waitsLocked reports whether there are bytes to read.
func (c *conn) waitsLocked() bool {
	var b [1]byte
	n, _, err := unix.Recvfrom(int(c.fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n > 0 && err == nil
}

// readLocked reads what is there; 0 bytes without an error are the end.
func (c *conn) readLocked(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(c.fd), p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			c.readable = false
		case err != nil:
			c.hungUp = true
		case n == 0:
			c.hungUp = true
		case n < len(p):
			c.readable = c.hungUp // the end is still to be read
		}
		return max(n, 0), err
	}
}

// writeLocked writes what can be written now.
func (c *conn) writeLocked(p []byte) (int, error) {
	for {
		n, err := unix.Write(int(c.fd), p)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			c.writable = false
			return 0, nil
		case n < len(p):
			c.writable = false
		}
		return max(n, 0), err
	}
}

// lingerLocked says that nothing more will be sent, and has the peer close: if
// this side did while the peer sends, the peer might not see the last of it.
func (c *conn) lingerLocked() {
	c.stream, c.socket, c.fields, c.extra = nil, nil, nil, nil
	c.writeBy.Store(0)
	if err := unix.Shutdown(int(c.fd), unix.SHUT_WR); err != nil || c.hungUp {
		c.closeLocked()
		return
	}
	c.enterLocked(lingers)
	c.readBy.Store(c.worker.engine.in(lingering))
	if c.readable {
		c.discardLocked()
	}
}

// discardLocked reads and drops what comes from a peer that is to close.
func (c *conn) discardLocked() {
	const most = 64
	var b [4 << 10]byte
	for range most {
		n, err := c.readLocked(b[:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case n == 0 || err != nil:
			c.closeLocked()
			return
		case !c.readable:
			return
		}
	}
	c.closeLocked() // it does not listen
}

// event takes what epoll says. It reports whether there is more to be read than
// a fair share.
func (c *conn) event(events uint32, buffer []byte) (more bool) {
	c.mu.Lock()
	const failed = unix.EPOLLHUP | unix.EPOLLERR
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|failed) != 0 {
		c.readable = true
	}
	if events&(unix.EPOLLOUT|failed) != 0 {
		c.writable = true
	}
	if events&(unix.EPOLLRDHUP|failed) != 0 {
		c.hungUp = true
	}
	var end ending
	switch c.state {
	case idle:
		if d := c.worker.direct; d != nil && c.readable && c.extra == nil && !c.door.closed.Load() {
			d.arrive(c, buffer[:directSize])
			return false
		}
		if c.readable {
			c.arrivedLocked()
		}
	case serving:
		c.lease.changed.Broadcast()
	case exchange, streaming:
		end = c.parkedLocked()
	case upgraded:
		if c.writable && c.writeBy.Load() != 0 {
			c.wake()
		}
		if c.readable {
			c.mu.Unlock()
			return c.readSocket(buffer)
		}
	case lingers:
		if c.readable {
			c.discardLocked()
		}
	}
	c.mu.Unlock()
	end.tell()
	return false
}

// parkedLocked looks after a parked response whose connection changed.
func (c *conn) parkedLocked() ending {
	if c.hungUp && !c.answersLocked() {
		return c.cutLocked(c.whyLocked(nil))
	}
	if c.writable && c.writeBy.Load() != 0 {
		c.wake()
	}
	return ending{}
}

// answersLocked reports whether the answer has come: a peer that only sends no
// more gets it.
func (c *conn) answersLocked() bool {
	if c.exchange == nil {
		return false
	}
	_, answered := c.exchange.taken()
	return answered
}

// whyLocked says why a peer vanished, by the error that told: it may be the
// kernel that waited in vain for it to take something.
func (c *conn) whyLocked(err error) Reason {
	if err == nil {
		n, _ := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR) // 0 if that fails
		err = unix.Errno(n)
	}
	if c.writeBy.Load() != 0 && errors.Is(err, unix.ETIMEDOUT) {
		return Slow
	}
	return Gone
}

// due reports whether a limit has passed.
func (c *conn) due(now uint32) bool {
	r, w := c.readBy.Load(), c.writeBy.Load()
	return r != 0 && r <= now || w != 0 && w <= now
}

// expire ends a connection for which a limit has passed.
func (c *conn) expire(now uint32) {
	c.mu.Lock()
	if !c.due(now) {
		c.mu.Unlock()
		return
	}
	var end ending
	switch c.state {
	case idle:
		reason := Idle
		if c.fresh {
			reason = HeaderTimeout
		}
		c.closeLocked()
		c.worker.engine.cfg.Cut(reason)
	case lingers:
		c.closeLocked()
	default:
		end = c.cutLocked(Slow)
	}
	c.mu.Unlock()
	end.tell()
}

// drain asks the owner of what is parked to end it.
func (c *conn) drain() {
	c.mu.Lock()
	e := ending{c.exchange, c.stream}
	c.mu.Unlock()
	if e.exchange != nil && e.exchange.owner != nil {
		e.exchange.owner.Drain(e.exchange.number)
	}
	if e.stream != nil {
		e.stream.owner.Drain(e.stream.number)
	}
}

// waitWriteLocked limits the time in which the peer has to take more of what
// waits. It starts anew with all that it takes.
func (c *conn) waitWriteLocked(took bool) {
	if e := c.worker.engine; took || c.writeBy.Load() == 0 {
		c.writeBy.Store(e.in(e.cfg.WriteTimeout))
	}
}
