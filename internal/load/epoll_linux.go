package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// newWorker returns a worker for some clients.
func newWorker(t target, clients []*client, sum *tally) (worker, error) {
	if t.tls != nil {
		return newRoutines(t, clients, sum), nil
	}
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an epoll instance: %w", err)
	}
	return &epoll{
		target: t, ep: ep, queue: clients, tally: sum,
		in: make([]byte, readBuffer), out: make([]byte, 0, 4<<10),
	}, nil
}

// longest bounds a wait for events, so that the end of ctx is noticed.
const longest = 20 * time.Millisecond

// epoll is a worker that is one loop over epoll.
type epoll struct {
	target target
	ep     int
	in     []byte // shared by all reads
	out    []byte // shared by all that is composed

	mu     sync.Mutex // held while the loop works: guards tally and all clients
	tally  *tally
	queue  []*client // waiting for their turn to connect
	alarms alarms
	conns  []*conn // by descriptor
}

// conn is a client's connection.
type conn struct {
	fd     int
	client *client
	up     bool
	unsent []byte // what the socket did not take
}

func (w *epoll) look(with func(*tally)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	with(w.tally)
}

func (w *epoll) run(ctx context.Context) error {
	defer w.close()
	events := make([]unix.EpollEvent, 512)
	for ctx.Err() == nil {
		wait := w.turn()
		n, err := unix.EpollWait(w.ep, events, wait)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for connections: %w", err)
		}
		if n > 0 {
			w.handle(events[:n])
		}
	}
	return nil
}

func (w *epoll) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.conns {
		if k != nil {
			_ = unix.Close(k.fd)
		}
	}
	_ = unix.Close(w.ep)
}

// turn handles alarms, connects, and returns how many milliseconds to wait for
// events.
func (w *epoll) turn() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.target.clock()
	for c := w.alarms.due(now); c != nil; c = w.alarms.due(now) {
		c.now = now
		if k := w.find(c); k != nil {
			out, err := c.timer(w.out[:0])
			w.answer(k, out, err)
			continue
		}
		c.alarm = 0
		w.queue = append(w.queue, c)
	}
	for len(w.queue) > 0 && w.tally.opening < w.target.opening {
		c := w.queue[0]
		w.queue = w.queue[1:]
		c.now = now
		w.connect(c)
	}
	end := w.target.clock()
	w.tally.busy += end - now
	left := w.alarms.next(end+longest) - end
	return int((max(left, 0) + time.Millisecond - 1) / time.Millisecond)
}

// find returns the connection of a client, nil if it has none.
func (w *epoll) find(c *client) *conn {
	if c.phase == waiting || c.phase == over || c.fd >= len(w.conns) {
		return nil
	}
	return w.conns[c.fd]
}

func (w *epoll) handle(events []unix.EpollEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	start := w.target.clock()
	now := start
	for i := range events {
		k := w.conns[events[i].Fd]
		if k == nil { // closed by an event before this one
			continue
		}
		k.client.now = now
		w.flush(k)
		if events[i].Events&^uint32(unix.EPOLLOUT) != 0 {
			now = w.read(k, events[i].Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0)
		}
	}
	w.tally.busy += w.target.clock() - start
}

func (w *epoll) connect(c *client) {
	c.open()
	fd, err := w.dial(c)
	if err != nil {
		c.lost(err)
		w.alarms.set(c)
		return
	}
	for fd >= len(w.conns) {
		w.conns = append(w.conns, make([]*conn, 1024)...)
	}
	c.fd = fd
	w.conns[fd] = &conn{fd: fd, client: c}
	w.alarms.set(c)
}

// dial begins to connect.
func (w *epoll) dial(c *client) (int, error) {
	family := unix.AF_INET
	if w.target.addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("opening a socket: %w", err)
	}
	if err = w.prepare(fd, c); err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func (w *epoll) prepare(fd int, c *client) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("setting an option of a socket: %w", err)
	}
	if from, ok := w.target.source(c.number); ok {
		// The port is to be chosen by the connection, not by the address alone.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("setting an option of a socket: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			return fmt.Errorf("binding to %v: %w", from, err)
		}
	}
	if err := unix.Connect(fd, sockaddr(w.target.addr)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connecting to %v: %w", w.target.addr, err)
	}
	// Each change is announced once, so that none has to be asked for again.
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.EpollCtl(w.ep, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("watching a socket: %w", err)
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// flush goes on with what waited for room: the connection itself, or bytes.
func (w *epoll) flush(k *conn) {
	if k.up {
		if len(k.unsent) > 0 {
			unsent := k.unsent
			k.unsent = nil
			w.send(k, unsent)
		}
		return
	}
	code, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		w.lost(k, fmt.Errorf("connecting to %v: %w", w.target.addr, err))
		return
	}
	k.up = true
	w.answer(k, k.client.session.begin(w.out[:0]), nil)
}

// read reads what there is. A buffer that is not full was the last, unless the
// other side has ended.
func (w *epoll) read(k *conn, ended bool) (now time.Duration) {
	now = k.client.now
	for n := len(w.in); w.conns[k.fd] == k && (n == len(w.in) || ended); {
		var err error
		n, err = unix.Read(k.fd, w.in)
		now = w.target.clock()
		k.client.now = now
		switch {
		case errors.Is(err, unix.EINTR):
			n = len(w.in)
		case errors.Is(err, unix.EAGAIN):
			return now
		case err != nil:
			w.lost(k, fmt.Errorf("reading: %w", err))
		case n == 0:
			w.lost(k, errClosed)
		default:
			w.tally.bytes += int64(n)
			out, err := k.client.session.input(w.in[:n], w.out[:0])
			w.answer(k, out, err)
		}
	}
	return now
}

// answer does what a session wants.
func (w *epoll) answer(k *conn, out []byte, err error) {
	if cap(out) > cap(w.out) {
		w.out = out[:0]
	}
	if err != nil {
		w.lost(k, err)
		return
	}
	w.alarms.set(k.client)
	if len(out) > 0 {
		w.send(k, out)
	}
}

// send writes, and keeps what the socket does not take.
func (w *epoll) send(k *conn, b []byte) {
	n := 0
	if len(k.unsent) == 0 {
		var err error
		n, err = unix.Write(k.fd, b)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			w.lost(k, fmt.Errorf("writing: %w", err))
			return
		}
		if n = max(n, 0); n == len(b) {
			return
		}
	}
	k.unsent = append(k.unsent, b[n:]...)
}

// lost closes a connection.
func (w *epoll) lost(k *conn, err error) {
	w.conns[k.fd] = nil
	_ = unix.Close(k.fd)
	k.client.lost(err)
	w.alarms.set(k.client)
}
