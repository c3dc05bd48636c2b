package hold

import (
	"errors"

	"golang.org/x/sys/unix"
)

// readSocket reads what there is on a WebSocket, unless somebody is at it. It
// reports whether there is more than a fair share.
func (c *conn) readSocket(buffer []byte) (more bool) {
	c.mu.Lock()
	if c.reading || c.state != upgraded {
		c.mu.Unlock()
		return false
	}
	c.reading = true
	return c.readOn(buffer)
}

// readEarly takes what the peer sent behind its upgrade, and goes on from there.
// reading is set already.
func (c *conn) readEarly(sent []byte) {
	if len(sent) > 0 {
		if !c.feed(sent) {
			return
		}
	}
	c.mu.Lock()
	var buffer []byte
	if c.readable {
		const size = 4 << 10
		buffer = make([]byte, size)
	}
	for c.readOn(buffer) {
		c.mu.Lock()
		c.reading = true
	}
}

// readOn reads what there is, with reading set, which it ends. It takes the
// lock over.
func (c *conn) readOn(buffer []byte) (more bool) {
	const share = 16 // reads
	for range share {
		if c.state != upgraded || !c.readable {
			break
		}
		n, err := c.readLocked(buffer)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if n == 0 || err != nil {
			c.reading = false
			end := c.cutLocked(c.whyLocked(err))
			c.mu.Unlock()
			end.tell()
			return false
		}
		c.mu.Unlock()
		if !c.feed(buffer[:n]) {
			return false
		}
		c.mu.Lock()
	}
	c.reading = false
	more = c.state == upgraded && c.readable
	c.mu.Unlock()
	return more
}

// feed hands bytes to the socket, without the lock. After it returned false
// nothing is read any more: the stream has been ended.
func (c *conn) feed(data []byte) (more bool) {
	c.mu.Lock()
	in := c.socket
	c.mu.Unlock()
	if in == nil {
		return false
	}
	more, breach := in.feed(data)
	if breach {
		c.worker.engine.cfg.Cut(Protocol)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state != upgraded:
		return false
	case !more:
		c.readBy.Store(0) // writing the answer has a limit of its own
	case in.parser != nil:
		c.readBy.Store(c.worker.engine.in(c.worker.engine.cfg.WriteTimeout))
	case c.readBy.Load() != 0:
		c.readBy.Store(0)
	}
	return more
}
