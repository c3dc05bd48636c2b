package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Server is one way to an edge.
type Server struct {
	// URL is http:// or https://, host and port.
	URL string
	// HTTP2 asks for HTTP/2; over http:// with prior knowledge.
	HTTP2 bool
	// Roots verify https.
	Roots *x509.CertPool
}

// network is the connections of one client: its own, so that they can be
// broken without breaking anybody else's.
type network struct {
	server Server
	small  bool
	http   *http.Transport

	mu     sync.Mutex
	conns  map[*net.TCPConn]struct{}
	closed bool
}

func newNetwork(s Server, small bool) *network {
	n := &network{server: s, small: small, conns: map[*net.TCPConn]struct{}{}}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!s.HTTP2)
	protocols.SetHTTP2(s.HTTP2)
	protocols.SetUnencryptedHTTP2(s.HTTP2)
	n.http = &http.Transport{
		DialContext:        n.dial,
		TLSClientConfig:    &tls.Config{RootCAs: s.Roots},
		Protocols:          protocols,
		DisableCompression: true,
		// The default is a window of 4 MB: too patient for a slow reader.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10},
	}
	return n
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	d := net.Dialer{}
	if n.small {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			control := c.Control(func(fd uintptr) {
				// With loopback's segments of 64 KB the sender would get megabytes.
				err = errors.Join(
					syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096),
					syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400))
			})
			if control != nil {
				return control
			}
			return err
		}
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		_ = tcp.Close()
		return nil, net.ErrClosed
	}
	n.conns[tcp] = struct{}{}
	return &tracked{TCPConn: tcp, network: n}, nil
}

// tracked is a connection that its network knows until it is closed.
type tracked struct {
	*net.TCPConn
	network *network
}

// Close implements [net.Conn].
func (c *tracked) Close() error {
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	delete(c.network.conns, c.TCPConn)
	return c.TCPConn.Close()
}

// reset ends all connections with a reset.
func (n *network) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for conn := range n.conns {
		_ = conn.SetLinger(0) // it may be closed already
		_ = conn.Close()
	}
}

// close ends all connections in order.
func (n *network) close() {
	defer n.http.CloseIdleConnections()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for conn := range n.conns {
		_ = conn.Close() // it may be reset already
	}
}

// do sends a request and returns the response if it has one of the statuses.
func (n *network) do(ctx context.Context, method, path string, header http.Header, body io.Reader, statuses ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, n.server.URL+path, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := n.http.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if n.server.HTTP2 && resp.ProtoMajor != 2 {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("the server speaks %s, not HTTP/2", resp.Proto)
	}
	if slices.Contains(statuses, resp.StatusCode) {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, statusError(resp)
}

func statusError(resp *http.Response) error {
	const most = 64 << 10
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return err
	}
	var problem struct{ Reason string }
	_ = json.Unmarshal(text, &problem)                         // proxies say it otherwise
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // most have none
	return &StatusError{
		Status: resp.StatusCode, Reason: problem.Reason, Retry: time.Duration(seconds) * time.Second, Body: string(text),
	}
}

// answer is a whole response.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// whole sends a request and returns the whole response.
func (n *network) whole(ctx context.Context, method, path string, header http.Header, body io.Reader, statuses ...int) (answer, error) {
	resp, err := n.do(ctx, method, path, header, body, statuses...)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: text}, err
}

// raw dials the server without HTTP's client, for WebSockets.
func (n *network) raw(ctx context.Context) (net.Conn, *url.URL, error) {
	u, err := url.Parse(n.server.URL)
	if err != nil {
		return nil, nil, err
	}
	conn, err := n.dial(ctx, "tcp", u.Host)
	if err != nil || u.Scheme != "https" {
		return conn, u, err
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: n.server.Roots, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}})
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, nil, err
	}
	return secure, u, nil
}

// reader returns a buffered reader, small so that little is read ahead.
func reader(r io.Reader) *bufio.Reader {
	const size = 4096
	return bufio.NewReaderSize(r, size)
}
