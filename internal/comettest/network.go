// Package comettest runs a cluster in a synctest bubble: whole processes over a
// network in memory, on virtual time, with faults on demand, and clients whose
// histories can be checked.
package comettest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Network is a network in memory: hosts listen and dial by host:port, and what
// is between two hosts can be slow, broken or gone. It lives on the clock of
// the bubble it is used in.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	routes    map[route]state
	conns     map[*conn]struct{}
	paused    map[string]bool // by host, like crashes
	crashes   map[string]int
	ports     int
}

// link is a pair of hosts, in order of their names.
type link struct{ a, b string }

// route is the way from one host to another.
type route struct{ from, to string }

type state struct {
	closed bool
	delay  time.Duration
}

func between(a, b string) link {
	if a > b {
		a, b = b, a
	}
	return link{a, b}
}

// NewNetwork returns a network without faults.
func NewNetwork() *Network {
	return &Network{
		listeners: map[string]*listener{}, routes: map[route]state{}, conns: map[*conn]struct{}{}, paused: map[string]bool{}, crashes: map[string]int{},
	}
}

// Listen opens a door at host:port.
func (n *Network) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, busy := n.listeners[addr]; busy {
		return nil, fmt.Errorf("listen %s: %w", addr, syscall.EADDRINUSE)
	}
	l := &listener{net: n, addr: address(addr), backlog: make(chan *conn, 128), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// Dial returns the dialer of a host, good until its next crash. Into a
// partition it asks again and again until its context ends; where nobody
// listens it is refused at once.
func (n *Network) Dial(host string) func(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	life := n.crashes[host]
	return func(ctx context.Context, addr string) (net.Conn, error) {
		to, _, _ := strings.Cut(addr, ":")
		for again := time.Second; !n.open(host, to); again *= 2 { // as the kernel does
			wait(ctx, again)
			if ctx.Err() != nil {
				return nil, fmt.Errorf("dial %s: %w", addr, ctx.Err())
			}
		}
		n.mu.Lock()
		l := n.listeners[addr]
		if n.crashes[host] != life {
			l = nil
		}
		n.ports++
		local := address(fmt.Sprintf("%s:%d", host, 10_000+n.ports))
		n.mu.Unlock()
		if l == nil {
			return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
		}
		near, far := n.connect(between(host, to), local, address(addr))
		select {
		case l.backlog <- far:
			return near, nil
		case <-l.closed:
			near.reset()
			return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
		case <-ctx.Done():
			near.reset()
			return nil, fmt.Errorf("dial %s: %w", addr, ctx.Err())
		}
	}
}

// open reports whether both ways between two hosts are.
func (n *Network) open(a, b string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.closedLocked(a, b) && !n.closedLocked(b, a)
}

// closedLocked reports whether nothing gets from one host to another.
func (n *Network) closedLocked(from, to string) bool {
	return n.routes[route{from, to}].closed || n.paused[from] || n.paused[to]
}

// change changes ways and wakes whoever waits for that.
func (n *Network) change(do func(*state), ways ...route) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, way := range ways {
		s := n.routes[way]
		do(&s)
		n.routes[way] = s
	}
	n.wakeLocked()
}

func (n *Network) wakeLocked() {
	for c := range n.conns {
		c.wakeLocked()
	}
}

// Partition lets nothing through between two hosts. What is under way waits.
func (n *Network) Partition(a, b string) {
	n.change(func(s *state) { s.closed = true }, route{a, b}, route{b, a})
}

// Block lets nothing through from one host to another. What goes the other way
// arrives, though nobody hears of that.
func (n *Network) Block(from, to string) {
	n.change(func(s *state) { s.closed = true }, route{from, to})
}

// Heal ends what Partition and Block began.
func (n *Network) Heal(a, b string) {
	n.change(func(s *state) { s.closed = false }, route{a, b}, route{b, a})
}

// Delay makes every byte between two hosts take so long.
func (n *Network) Delay(a, b string, d time.Duration) {
	n.change(func(s *state) { s.delay = d }, route{a, b}, route{b, a})
}

// Calm heals everything between any two hosts.
func (n *Network) Calm() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.routes)
	clear(n.paused)
	n.wakeLocked()
}

// Pause lets nothing through to or from a host, whatever the other side is.
func (n *Network) Pause(host string, paused bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paused[host] = paused
	n.wakeLocked()
}

// Cut resets every connection between two hosts.
func (n *Network) Cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.link == between(a, b) {
			c.resetLocked()
		}
	}
}

// Vanish ends every connection of a host without a sign to the other ends, as
// when the host is switched off. It can connect again.
func (n *Network) Vanish(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if c.local.host() == host {
			c.broken, c.peer.alone = true, true
			c.forgetLocked()
		}
	}
}

// Conns is how many connections there are between two hosts, counting those
// of which the other end does not know that they are over.
func (n *Network) Conns(a, b string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	ends := 0
	for c := range n.conns {
		if c.link == between(a, b) && c.local.host() == b {
			ends++
		}
	}
	return ends
}

// Crash resets every connection of a host, closes its doors, and lets nothing
// that runs there connect any more.
func (n *Network) Crash(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crashes[host]++
	for c := range n.conns {
		if c.link.a == host || c.link.b == host {
			c.resetLocked()
		}
	}
	for addr, l := range n.listeners {
		if strings.HasPrefix(addr, host+":") {
			l.closeLocked()
		}
	}
}

// address is a host:port.
type address string

func (address) Network() string  { return "memory" }
func (a address) String() string { return string(a) }

func (a address) host() string {
	host, _, _ := strings.Cut(string(a), ":")
	return host
}

type listener struct {
	net     *Network
	addr    address
	backlog chan *conn
	closed  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.closeLocked()
	return nil
}

func (l *listener) closeLocked() {
	if l.net.listeners[string(l.addr)] != l {
		return
	}
	delete(l.net.listeners, string(l.addr))
	close(l.closed)
	for {
		select {
		case c := <-l.backlog:
			c.resetLocked()
		default:
			return
		}
	}
}
