package hold

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"
)

// open runs an engine with a door.
func open(t *testing.T) net.Listener {
	t.Helper()
	e := NewEngine(Config{Failed: func(err error) { t.Error(err) }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := e.Listen(l)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		_ = d.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return d
}

// pair returns a lease and the other end of its connection.
func pair(t *testing.T, d net.Listener) (lent, other net.Conn) {
	t.Helper()
	other, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// Silent connections are not lent.
	if _, err := other.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	lent, err = d.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := lent.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	return lent, other
}

func TestLeaseIsANetConn(t *testing.T) {
	d := open(t)
	for name, swap := range map[string]bool{"lent": false, "other": true} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				lent, other := pair(t, d)
				stop = func() { _ = lent.Close(); _ = other.Close() }
				if swap {
					return other, lent, stop, nil
				}
				return lent, other, stop, nil
			})
		})
	}
}

func TestLease(t *testing.T) {
	d := open(t)
	lent, other := pair(t, d)
	if lent.RemoteAddr().String() != other.LocalAddr().String() || lent.LocalAddr().String() != other.RemoteAddr().String() {
		t.Errorf("addresses %v, %v", lent.RemoteAddr(), lent.LocalAddr())
	}
	l, _ := lent.(*lease)
	for name, o := range map[string]struct{ level, option, want int }{
		"no delay":     {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		"keep alive":   {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"first probe":  {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		"user timeout": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 15_000},
	} {
		if got, err := unix.GetsockoptInt(int(l.conn.fd), o.level, o.option); got != o.want || err != nil {
			t.Errorf("%s: %d, %v; want %d", name, got, err, o.want)
		}
	}
	_, _ = other.Write([]byte("end"))
	_ = other.Close()
	if got, err := io.ReadAll(lent); string(got) != "end" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	_ = lent.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := lent.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	_ = lent.Close()
	if _, err := lent.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
}

func TestPipelinedBytesAreReadFirst(t *testing.T) {
	d := open(t)
	lent, other := pair(t, d)
	defer func() { _ = other.Close() }()
	l, _ := lent.(*lease)
	l.conn.mu.Lock()
	l.early = []byte("early")
	l.conn.mu.Unlock()
	_, _ = other.Write([]byte("later"))
	got := make([]byte, 10)
	if _, err := io.ReadFull(lent, got); err != nil || string(got) != "earlylater" {
		t.Errorf("read %q, %v", got, err)
	}
}

// There are very many of these. The allocator has sizes of 80, 112 and 128.
func TestSizes(t *testing.T) {
	for name, size := range map[string]struct{ got, want uintptr }{
		"conn":     {unsafe.Sizeof(conn{}), 128},
		"exchange": {unsafe.Sizeof(Exchange{}), 112},
		"stream":   {unsafe.Sizeof(Stream{}), 80},
		"socket":   {unsafe.Sizeof(socket{}), 48},
	} {
		if size.got > size.want {
			t.Errorf("%s: %d bytes, want %d", name, size.got, size.want)
		}
	}
}

func TestScan(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int
	}{
		{"GET / HTTP/1.1\r\nA: b\r\n\r\n", 24},
		{"GET / HTTP/1.1\r\nA: b\r\n\r\nGET /\r\n\r\n", 24},
		{"GET / HTTP/1.1\nA: b\n\n", 21},
		{"GET / HTTP/1.1\nA: b\n\r\n", 22},
		{"GET / HTTP/1.1\r\n\r\r\n\r\n", 21},
		{"GET / HTTP/1.1\r\n\r\n", 18},
		{"GET / HTTP/1.1\r\nA: b\r\n\r", 0},
		{"GET / HTTP/1.1\r\nA: b\r\n", 0},
	} {
		for size := 1; size <= len(tt.in); size++ {
			var s scan
			got, at := 0, 0
			for piece := range slices.Chunk([]byte(tt.in), size) {
				if end := s.end(piece); end > 0 {
					got = at + end
				}
				at += len(piece)
			}
			if got != tt.want {
				t.Errorf("%q in pieces of %d: %d, want %d", tt.in, size, got, tt.want)
			}
		}
	}
}
