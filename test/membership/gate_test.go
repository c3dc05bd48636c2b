package membership

import (
	"context"
	"errors"
	"net"
	"sync"
)

// gate is a network that can fail: it refuses connections and breaks those
// there are, or swallows everything without a word.
type gate struct {
	swallow bool

	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
	conns  map[*gated]struct{}
}

func newGate(swallow bool) *gate {
	g := &gate{swallow: swallow, opened: make(chan struct{}), conns: make(map[*gated]struct{})}
	close(g.opened)
	return g
}

// close closes the gate, or opens it.
func (g *gate) close(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if closed == g.closedLocked() {
		return
	}
	if !closed {
		close(g.opened)
		return
	}
	g.opened = make(chan struct{})
	if g.swallow {
		return
	}
	for c := range g.conns {
		_ = c.Conn.Close() // broken, whatever it says
	}
	clear(g.conns)
}

func (g *gate) closedLocked() bool {
	select {
	case <-g.opened:
		return false
	default:
		return true
	}
}

func (g *gate) isOpen() (<-chan struct{}, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened, !g.closedLocked()
}

func (g *gate) dial(ctx context.Context, addr string) (net.Conn, error) {
	opened, isOpen := g.isOpen()
	if !isOpen {
		if !g.swallow {
			return nil, errors.New("the gate is closed")
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &gated{Conn: conn, gate: g, closed: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[c] = struct{}{}
	return c, nil
}

// gated is a connection through the gate. What is under way while it is closed
// arrives when it opens.
type gated struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gated) pass() error {
	for {
		opened, isOpen := c.gate.isOpen()
		if isOpen {
			return nil
		}
		select {
		case <-opened:
		case <-c.closed:
			return net.ErrClosed
		}
	}
}

// Read implements [net.Conn].
func (c *gated) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if passErr := c.pass(); passErr != nil {
		return 0, passErr
	}
	return n, err
}

// Write implements [net.Conn].
func (c *gated) Write(p []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Close implements [net.Conn].
func (c *gated) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	delete(c.gate.conns, c)
	return c.Conn.Close()
}
