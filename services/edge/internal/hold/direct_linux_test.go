package hold

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// echo tells what a handler sees of a request.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Path == "/d/refuse" {
		w.WriteHeader(http.StatusTeapot)
	}
	_, _ = fmt.Fprintf(w, "%s %s %s %s %s %d %v %q %v\n", r.Method, r.URL, r.RequestURI, r.Host, r.Proto,
		r.ContentLength, r.TransferEncoding, body, err)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		_, _ = fmt.Fprintf(w, "%s: %q\n", name, r.Header[name])
	}
}

func below(path string) func(*http.Request) bool {
	return func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, path) }
}

// serveDirect serves echo, directly or by net/http's server alone.
func serveDirect(t testing.TB, handler http.Handler, failed func(error), takes func(*http.Request) bool) (addr string) {
	t.Helper()
	e := NewEngine(Config{Failed: failed})
	if takes != nil {
		e.Direct(handler, takes)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door := e.Listen(l)
	srv := &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Second, ConnContext: e.ConnContext, ConnState: e.ConnState,
	}
	ctx, stop := context.WithCancel(context.Background())
	ended, served := make(chan error, 1), make(chan struct{})
	go func() { ended <- e.Run(ctx) }()
	go func() {
		defer close(served)
		_ = srv.Serve(door)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		<-served
	})
	return l.Addr().String()
}

// converse sends pieces on one connection and returns the responses, without
// their dates, until the peer closes or is silent.
func converse(t testing.TB, addr string, pieces ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for i, p := range pieces {
		if i > 0 {
			time.Sleep(20 * time.Millisecond) // so that it comes by itself
		}
		if _, err := io.WriteString(c, p); err != nil {
			break // it was refused before it ended
		}
	}
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	all, err := io.ReadAll(c)
	if err != nil && len(all) == 0 {
		t.Fatalf("read: %v", err)
	}
	var told []string
	in := bufio.NewReader(bytes.NewReader(all))
	for {
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			return strings.Join(told, "\n---\n")
		}
		body, err := io.ReadAll(r.Body)
		r.Header.Del("Date")
		told = append(told, fmt.Sprintf("%s %v %d %q %v", r.Status, r.Header, r.ContentLength, body, err))
	}
}

// Whatever is sent, it is answered as net/http's server answers it.
func TestDirectAnswersAsTheServer(t *testing.T) {
	direct := serveDirect(t, http.HandlerFunc(echo), nil, below("/d"))
	server := serveDirect(t, http.HandlerFunc(echo), nil, nil)
	const h = "Host: a.example\r\n"
	post := "POST /d?q=1 HTTP/1.1\r\n" + h + "Content-Length: 5\r\nCookie: a=b; c=d\r\nX: 1\r\nX: 2\r\n\r\nhello"
	for name, pieces := range map[string][]string{
		"plain":                  {post},
		"no body":                {"GET /d HTTP/1.1\r\n" + h + "\r\n"},
		"a status":               {"GET /d/refuse HTTP/1.1\r\n" + h + "\r\n"},
		"one after the other":    {post, post, "GET /d/2 HTTP/1.1\r\n" + h + "\r\n"},
		"pipelined":              {post + post + post},
		"in pieces":              {post[:10], post[10:40], post[40:]},
		"body later":             {post[:len(post)-5], "hello"},
		"close":                  {"GET /d HTTP/1.1\r\n" + h + "Connection: close\r\n\r\n"},
		"keep-alive":             {"GET /d HTTP/1.1\r\n" + h + "Connection: Keep-Alive\r\n\r\n"},
		"HTTP/1.0":               {"GET /d HTTP/1.0\r\n\r\n"},
		"no host":                {"GET /d HTTP/1.1\r\n\r\n"},
		"two hosts":              {"GET /d HTTP/1.1\r\n" + h + h + "\r\n"},
		"empty host":             {"GET /d HTTP/1.1\r\nHost:\r\n\r\n"},
		"bad host":               {"GET /d HTTP/1.1\r\nHost: a/b c\r\n\r\n"},
		"chunked":                {"POST /d HTTP/1.1\r\n" + h + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
		"chunked and length":     {"POST /d HTTP/1.1\r\n" + h + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
		"two lengths":            {"POST /d HTTP/1.1\r\n" + h + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!"},
		"length twice":           {"POST /d HTTP/1.1\r\n" + h + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi"},
		"negative length":        {"POST /d HTTP/1.1\r\n" + h + "Content-Length: -1\r\n\r\n"},
		"too much":               {"POST /d HTTP/1.1\r\n" + h + "Content-Length: 2\r\n\r\nhi!!"},
		"too little":             {"POST /d HTTP/1.1\r\n" + h + "Content-Length: 20\r\n\r\nhi"},
		"expects":                {"POST /d HTTP/1.1\r\n" + h + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"},
		"folded":                 {"GET /d HTTP/1.1\r\n" + h + "X: a\r\n b\r\n\r\n"},
		"bare line feeds":        {"GET /d HTTP/1.1\n" + "Host: a\n\n"},
		"carriage return within": {"GET /d HTTP/1.1\r\n" + h + "X: a\rb\r\n\r\n"},
		"zero byte":              {"GET /d HTTP/1.1\r\n" + h + "X: a\x00b\r\n\r\n"},
		"latin":                  {"GET /d HTTP/1.1\r\n" + h + "X: \xe4\r\n\r\n"},
		"space before colon":     {"POST /d HTTP/1.1\r\n" + h + "Content-Length : 2\r\n\r\nhi"},
		"no colon":               {"GET /d HTTP/1.1\r\n" + h + "nonsense\r\n\r\n"},
		"no name":                {"GET /d HTTP/1.1\r\n" + h + ": x\r\n\r\n"},
		"a fragment":             {"GET /d#x HTTP/1.1\r\n" + h + "\r\n"},
		"bad escape":             {"GET /d%zz HTTP/1.1\r\n" + h + "\r\n"},
		"no protocol":            {"GET /d\r\n" + h + "\r\n"},
		"HTTP/3.7":               {"GET /d HTTP/3.7\r\n" + h + "\r\n"},
		"big":                    {"POST /d HTTP/1.1\r\n" + h + "Content-Length: 40000\r\n\r\n" + strings.Repeat("x", 40000)},
		"another path":           {"GET /else HTTP/1.1\r\n" + h + "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, want := converse(t, direct, pieces...), converse(t, server, pieces...)
			if got != want {
				t.Errorf("directly:\n%s\nby the server:\n%s", got, want)
			}
		})
	}
}

// What panics is reported, and ends its connection alone.
func TestDirectPanic(t *testing.T) {
	failures := make(chan error, 1)
	addr := serveDirect(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/d/panic" {
			panic("oh")
		}
		echo(w, r)
	}), func(err error) { failures <- err }, below("/d"))
	if got := converse(t, addr, "GET /d/panic HTTP/1.1\r\nHost: a\r\n\r\n"); got != "" {
		t.Errorf("got %s", got)
	}
	if err := <-failures; !strings.Contains(err.Error(), "serve /d/panic: panic: oh") {
		t.Errorf("reported %v", err)
	}
	if got := converse(t, addr, "GET /d HTTP/1.1\r\nHost: a\r\n\r\n"); !strings.HasPrefix(got, "200") {
		t.Errorf("got %s", got)
	}
}

// once is a listener that gives out one connection.
type once struct{ conns chan net.Conn }

func (o once) Accept() (net.Conn, error) {
	if c, ok := <-o.conns; ok {
		return c, nil
	}
	return nil, errors.New("no more")
}
func (o once) Close() error   { return nil }
func (o once) Addr() net.Addr { return &net.TCPAddr{} }

// script is a connection whose peer has said it all.
type script struct {
	net.Conn
	in  *bytes.Reader
	out *bytes.Buffer
}

func (s script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s script) Close() error                     { return nil }
func (s script) SetDeadline(time.Time) error      { return nil }
func (s script) SetReadDeadline(time.Time) error  { return nil }
func (s script) SetWriteDeadline(time.Time) error { return nil }
func (s script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s script) LocalAddr() net.Addr              { return &net.TCPAddr{} }

// What is served directly, net/http's server would have served the same.
func FuzzDirect(f *testing.F) {
	f.Add([]byte("POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"))
	f.Add([]byte("GET /d?x=%20 HTTP/1.1\r\nhost: a:80\r\nX: 1\r\nx: 2\r\n\r\n"))
	f.Add([]byte("GET /d HTTP/1.1\r\nHost: [::1]\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"))
	f.Add([]byte("GET /d HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"))
	d := newDirect(nil, nil, below(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, head := d.request(b)
		if r == nil {
			return
		}
		if head < 1 || head > len(b) {
			t.Fatalf("head %d of %d", head, len(b))
		}
		got := tell(r)
		var want string
		states := make(chan http.ConnState, 16)
		srv := &http.Server{
			Handler:   http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { want += tell(r) }),
			ConnState: func(_ net.Conn, s http.ConnState) { states <- s },
		}
		o := once{make(chan net.Conn, 1)}
		out := new(bytes.Buffer)
		o.conns <- script{in: bytes.NewReader(b), out: out}
		go func() { _ = srv.Serve(o) }()
		for s := range states {
			if s == http.StateClosed {
				break
			}
		}
		close(o.conns)
		if got != want {
			t.Errorf("directly: %s\nby the server: %s\nwhich wrote %q", got, want, out)
		}
	})
}

func tell(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	return fmt.Sprintf("%s %s %s %s %d %v %q %v %v %v", r.Method, r.RequestURI, r.URL, r.Host, r.ContentLength,
		r.Close, body, err, r.Header, r.Trailer)
}
