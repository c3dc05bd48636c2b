package load

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"time"
)

// routines is a worker that has a goroutine for each connection.
type routines struct {
	target  target
	clients []*client
	slots   chan struct{} // one for each client on its way

	mu    sync.Mutex // guards tally and all clients
	tally *tally
}

func newRoutines(t target, clients []*client, sum *tally) *routines {
	return &routines{target: t, clients: clients, slots: make(chan struct{}, t.opening), tally: sum}
}

func (w *routines) look(with func(*tally)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	with(w.tally)
}

func (w *routines) run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, c := range w.clients {
		all.Go(func() { w.serve(ctx, c) })
	}
	all.Wait()
	return nil
}

// serve keeps a client connected until ctx ends or the client gives up.
func (w *routines) serve(ctx context.Context, c *client) {
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err := w.connection(ctx, c)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		c.now = w.target.clock()
		c.lost(err)
		wait = c.alarm - c.now
		gone := c.phase == over
		w.mu.Unlock()
		if gone {
			return
		}
	}
}

// connection serves a client over one connection, until that is lost.
func (w *routines) connection(ctx context.Context, c *client) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case w.slots <- struct{}{}:
	}
	held := true
	release := func() {
		if held {
			held = false
			<-w.slots
		}
	}
	defer release()
	w.mu.Lock()
	c.now = w.target.clock()
	c.open()
	w.mu.Unlock()
	conn, err := w.dial(ctx, c)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()

	in := make([]byte, 16<<10)
	out := c.session.begin(nil)
	for {
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return err
			}
		}
		n, err := w.read(conn, c, in)
		w.mu.Lock()
		c.now = w.target.clock()
		w.tally.bytes += int64(n)
		switch {
		case n > 0:
			out, err = c.session.input(in[:n], out[:0])
		case c.alarm > 0 && c.alarm <= c.now:
			out, err = c.timer(out[:0])
		}
		if c.phase == live {
			release()
		}
		w.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// read reads until the client's alarm.
func (w *routines) read(conn net.Conn, c *client, in []byte) (int, error) {
	w.mu.Lock()
	var deadline time.Time
	if c.alarm > 0 {
		deadline = time.Now().Add(c.alarm - w.target.clock() + time.Millisecond)
	}
	w.mu.Unlock()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return conn.Read(in)
}

func (w *routines) dial(ctx context.Context, c *client) (net.Conn, error) {
	d := net.Dialer{Timeout: setupTimeout}
	if from, ok := w.target.source(c.number); ok {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	addr := w.target.addr.String()
	if w.target.tls == nil {
		return d.DialContext(ctx, "tcp", addr)
	}
	return (&tls.Dialer{NetDialer: &d, Config: w.target.tls}).DialContext(ctx, "tcp", addr)
}
