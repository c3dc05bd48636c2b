package bench

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// reader is many connections that only read. It finds messages in what arrives
// by their stamps, whatever stands around them, so that it reads every server
// alike and at the same price. One loop over epoll reads all connections into
// one buffer.
type reader struct {
	peer    *peer
	channel string // of its own
	request []byte
	ep      int
	clock   func() time.Duration
	in      []byte
	stop    chan struct{}
	stopped chan struct{}
	news    chan struct{} // something has arrived

	mu    sync.Mutex
	conns []conn // by descriptor
	fds   []int
	count count
}

// conn is one connection.
type conn struct {
	ready bool   // the stream has begun
	tail  []byte // what may be the beginning of a stamp
}

// count is what has arrived since a phase began.
type count struct {
	ready, lost int // connections, since the reader was opened
	from        time.Duration
	delivered   int64
	bytes       int64
	late        [buckets]uint32
}

const (
	// opening is how many connections may be on their way at once.
	opening = 128
	// bucket is how coarse latency is measured, and buckets how far.
	bucket  = 100 * time.Microsecond
	buckets = 200_000
	// patience is the longest that is waited for connections.
	patience = 20 * time.Second
)

// newReader opens as many connections to a channel of a peer as there are to be
// clients, and returns when all have their stream.
func newReader(p *peer, clients int) (*reader, error) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an epoll instance: %w", err)
	}
	began, channel := time.Now(), "bench/"+strings.ToLower(rand.Text())
	r := &reader{
		peer: p, channel: channel, request: []byte(p.ask(channel)), ep: ep, clock: func() time.Duration { return time.Since(began) },
		in: make([]byte, 256<<10), stop: make(chan struct{}), stopped: make(chan struct{}), news: make(chan struct{}, 1),
	}
	go r.run()
	if err := r.open(clients); err != nil {
		r.close()
		return nil, fmt.Errorf("opening %d connections: %w", clients, err)
	}
	return r, nil
}

// close ends all connections.
func (r *reader) close() {
	close(r.stop)
	<-r.stopped
	for _, fd := range r.fds {
		_ = syscall.Close(fd) // nothing is written that could be lost
	}
	_ = syscall.Close(r.ep)
}

func (r *reader) open(clients int) error {
	to, err := netip.ParseAddrPort(r.peer.addr)
	if err != nil {
		return err
	}
	for i := range clients {
		if !r.wait(patience, func(c *count) bool { return i-c.ready < opening }) {
			return fmt.Errorf("%d have no stream after %v", opening, patience)
		}
		if err := r.dial(to); err != nil {
			return err
		}
	}
	if !r.wait(patience, func(c *count) bool { return c.ready == clients }) {
		return fmt.Errorf("some have no stream after %v", patience)
	}
	return nil
}

func (r *reader) dial(to netip.AddrPort) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fds = append(r.fds, fd)
	for fd >= len(r.conns) {
		r.conns = append(r.conns, make([]conn, 1024)...)
	}
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}),
		syscall.SetNonblock(fd, true),
		syscall.EpollCtl(r.ep, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | edge, Fd: int32(fd)}),
	)
	if err != nil {
		return err
	}
	_, err = syscall.Write(fd, r.request)
	return err
}

// edge is syscall.EPOLLET, which is negative there.
const edge = 1 << 31

// sendAll sends something to the server over every connection.
func (r *reader) sendAll(b []byte) error {
	for _, fd := range r.fds { // complete since open
		if _, err := syscall.Write(fd, b); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until what has been counted satisfies a condition.
func (r *reader) wait(most time.Duration, until func(*count) bool) bool {
	end := time.NewTimer(most)
	defer end.Stop()
	for {
		r.mu.Lock()
		ok := until(&r.count)
		r.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-r.news:
		case <-end.C:
			return false
		}
	}
}

// begin begins a phase: what is due from now on counts.
func (r *reader) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.count
	c.from, c.delivered, c.bytes = r.clock(), 0, 0
	clear(c.late[:])
}

func (r *reader) run() {
	defer close(r.stopped)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const longest = 20 // milliseconds, so that the end is noticed
	events := make([]syscall.EpollEvent, 512)
	for {
		n, err := syscall.EpollWait(r.ep, events, longest)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			panic(err) // the arguments are wrong
		}
		r.mu.Lock()
		for i := range max(n, 0) {
			r.drain(int(events[i].Fd))
		}
		r.mu.Unlock()
		select {
		case <-r.stop:
			return
		default:
		}
		if n > 0 {
			select {
			case r.news <- struct{}{}:
			default:
			}
		}
	}
}

// drain reads what a connection has. A buffer that is not full was the last.
func (r *reader) drain(fd int) {
	for {
		c := &r.conns[fd]
		kept := copy(r.in, c.tail)
		n, err := syscall.Read(fd, r.in[kept:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return
		case err != nil || n == 0:
			r.count.lost++
			return
		}
		r.count.bytes += int64(n)
		c.tail = append(c.tail[:0], r.take(fd, c, r.in[:kept+n])...)
		if kept+n < len(r.in) {
			return
		}
	}
}

// take counts the messages in a text and returns what of it is to be seen again
// with what follows.
func (r *reader) take(fd int, c *conn, text []byte) (rest []byte) {
	now, whole := r.clock(), text
	next := false
	if !c.ready {
		i := bytes.Index(text, r.peer.ready)
		if i < 0 {
			return text
		}
		c.ready, next = true, true
		r.count.ready++
		text = text[i+len(r.peer.ready):]
	}
	for {
		due, after, found := nextStamp(text)
		text = after
		if !found {
			break
		}
		next = true
		if due >= r.count.from {
			r.count.delivered++
			r.count.late[min((now-due)/bucket, buckets-1)]++
		}
	}
	if next && r.peer.next != nil {
		request := r.peer.next(r, whole)
		if _, err := syscall.Write(fd, request); err != nil || request == nil {
			r.count.lost++
		}
		return nil
	}
	return text
}

// percentile is the latency that a share of what was delivered did not exceed.
func (c *count) percentile(share float64) time.Duration {
	left := int64(share * float64(c.delivered))
	for i, n := range c.late {
		if left -= int64(n); left < 0 {
			return time.Duration(i+1) * bucket
		}
	}
	return buckets * bucket
}

// A stamp says when a message was due, by the reader's clock.
const (
	stampMark   = "~CB"
	stampDigits = 16
	stampLen    = len(stampMark) + stampDigits
)

// appendData appends the data of a message, JSON of a size.
func appendData(b []byte, size int, due time.Duration) []byte {
	const head, tail = `{"s":"`, `"}`
	b = fmt.Appendf(b, "%s%s%0*x", head, stampMark, stampDigits, int64(due))
	for range size - len(head) - stampLen - len(tail) {
		b = append(b, 'x')
	}
	return append(b, tail...)
}

// nextStamp finds the first stamp in a text, and what is behind it; if there is
// none, what may be the beginning of one.
func nextStamp(text []byte) (due time.Duration, rest []byte, found bool) {
	i := bytes.Index(text, []byte(stampMark))
	if i < 0 {
		return 0, text[max(0, len(text)-len(stampMark)+1):], false
	}
	if len(text)-i < stampLen {
		return 0, text[i:], false
	}
	n, err := strconv.ParseInt(string(text[i+len(stampMark):i+stampLen]), 16, 64)
	if err != nil {
		return nextStamp(text[i+len(stampMark):])
	}
	return time.Duration(n), text[i+stampLen:], true
}
