//go:build linux

package hold_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/hold"
)

// holder is a form of holding.
type holder interface {
	hold.Holder
	hold.Streamer
}

// server is an HTTP server on TCP. /x holds an exchange, /s a stream, /ws a
// WebSocket; /now answers at once. Bodies are read if the query has body.
type server struct {
	t      testing.TB
	engine *hold.Engine
	holder holder
	addr   string
	http   *http.Server
	stop   context.CancelCauseFunc
	ended  chan error
	parked chan *parked

	mu     sync.Mutex
	next   uint64
	cuts   []hold.Reason
	before func(s *hold.Stream) // a stream is held
}

// parked is a request that is held.
type parked struct {
	t        testing.TB
	id       string // of the query
	exchange *hold.Exchange
	stream   *hold.Stream
	over     chan bool // written, or ended whole
	writable chan struct{}
	drain    chan struct{}
	messages chan string
}

func (p *parked) Written(uint64)                { p.over <- true }
func (p *parked) Lost(uint64)                   { p.over <- false }
func (p *parked) Writable(uint64)               { p.writable <- struct{}{} }
func (p *parked) Ended(_ uint64, whole bool)    { p.over <- whole }
func (p *parked) Drain(uint64)                  { p.drain <- struct{}{} }
func (p *parked) Message(_ uint64, text []byte) { p.messages <- string(text) }

func (p *parked) Pong(_ uint64, payload []byte) { p.messages <- "pong " + string(payload) }

func (p *parked) Reply(a hold.Answer) hold.Reply {
	return hold.Reply{Status: a.Status, Type: "text/plain", Body: a.Body, Close: string(a.Body) == "last"}
}

func (p *parked) answer(body string) {
	p.t.Helper()
	if !p.exchange.Answer(hold.Answer{Status: http.StatusOK, Body: []byte(body)}) {
		p.t.Error("it had an answer")
	}
}

// wantOver waits for the end, of which the owner hears once.
func (p *parked) wantOver(want bool) {
	p.t.Helper()
	select {
	case got := <-p.over:
		if got != want {
			p.t.Errorf("over: %v, want %v", got, want)
		}
	case <-time.After(patience):
		p.t.Fatal("never over")
	}
}

func (p *parked) wantDrain() {
	p.t.Helper()
	select {
	case <-p.drain:
	case <-time.After(patience):
		p.t.Fatal("not asked to end")
	}
}

// patience is how long a test waits for what should come at once.
const patience = 10 * time.Second

// inBothForms runs a test with connections that are data, also with requests
// served where they are found, and with goroutines.
func inBothForms(t *testing.T, cfg hold.Config, test func(t *testing.T, s *server)) {
	t.Helper()
	t.Run("engine", func(t *testing.T) { test(t, serve(t, cfg)) })
	t.Run("direct", func(t *testing.T) {
		test(t, serveBy(t, cfg, true, false, func(e *hold.Engine) holder { return e }))
	})
	t.Run("goroutines", func(t *testing.T) {
		test(t, serveBy(t, cfg, false, false, func(e *hold.Engine) holder { return e.Waiting }))
	})
}

func serve(t testing.TB, cfg hold.Config) *server {
	t.Helper()
	return serveBy(t, cfg, false, false, func(e *hold.Engine) holder { return e })
}

func serveBy(t testing.TB, cfg hold.Config, direct, h2c bool, form func(*hold.Engine) holder) *server {
	t.Helper()
	const most = 1 << 14
	s := &server{t: t, ended: make(chan error, 1), parked: make(chan *parked, most)}
	cfg.Cut = func(r hold.Reason) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cuts = append(s.cuts, r)
	}
	cfg.Failed = func(err error) { t.Errorf("failed: %v", err) }
	s.engine = hold.NewEngine(cfg)
	s.holder = form(s.engine)
	if direct {
		s.engine.Direct(s, func(r *http.Request) bool { return r.URL.Path == "/x" || r.URL.Path == "/now" })
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(h2c)
	s.http = &http.Server{
		Handler: s, Protocols: protocols, ReadHeaderTimeout: patience, IdleTimeout: time.Minute,
		ConnContext: s.engine.ConnContext, ConnState: s.engine.ConnState,
	}
	door := s.engine.Listen(l)
	ctx, stop := context.WithCancelCause(context.Background())
	s.stop = stop
	go func() { s.ended <- s.engine.Run(ctx) }()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.http.Serve(door)
	}()
	t.Cleanup(func() {
		_ = s.http.Close()
		stop(context.Canceled)
		if err := <-s.ended; err != nil {
			t.Errorf("run: %v", err)
		}
		<-served
		if n := s.engine.Counts(); n != (hold.Counts{}) {
			t.Errorf("connections are left: %+v", n)
		}
	})
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.next++
	number, before := s.next, s.before
	s.mu.Unlock()
	p := &parked{
		t: s.t, id: r.URL.Query().Get("id"), over: make(chan bool, 2), writable: make(chan struct{}, 8),
		drain: make(chan struct{}, 2), messages: make(chan string, 1<<10),
	}
	w.Header().Set("Cache-Control", "no-store")
	if r.URL.Query().Has("body") {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	switch r.URL.Path {
	case "/x":
		p.exchange = hold.New(number)
		p.exchange.Own(p)
		s.parked <- p
		s.holder.Hold(w, r, p.exchange, p)
	case "/s":
		w.Header().Set("Content-Type", "text/event-stream")
		p.stream = hold.NewStream(number, p)
		if before != nil {
			before(p.stream)
		}
		s.parked <- p
		s.holder.Stream(w, r, p.stream)
	case "/ws":
		p.stream = hold.NewStream(number, p)
		s.parked <- p
		s.holder.Socket(w, r, p.stream, hold.SocketOptions{Protocol: r.URL.Query().Get("protocol"), MaxMessage: 1 << 10}, p)
	case "/now":
		_, _ = io.WriteString(w, "now "+r.RemoteAddr)
	}
}

func (s *server) beforeStream(f func(s *hold.Stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// held returns the next request that is held.
func (s *server) held() *parked {
	s.t.Helper()
	select {
	case p := <-s.parked:
		return p
	case <-time.After(patience):
		s.t.Fatal("nothing was parked")
		return nil
	}
}

// wantCounts waits until the engine's connections are as told.
func (s *server) wantCounts(want hold.Counts) {
	s.t.Helper()
	var got hold.Counts
	if !eventually(func() bool { got = s.engine.Counts(); return got == want }) {
		s.t.Fatalf("counts %+v, want %+v", got, want)
	}
}

// wantCuts waits for these cuts, and no others.
func (s *server) wantCuts(want ...hold.Reason) {
	s.t.Helper()
	var got []hold.Reason
	if !eventually(func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		got = slices.Clone(s.cuts)
		return len(got) >= len(want)
	}) || !slices.Equal(got, want) {
		s.t.Errorf("cuts %v, want %v", got, want)
	}
}

// eventually waits for what takes other goroutines or the kernel a moment.
func eventually(f func() bool) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		if f() {
			return true
		}
		select {
		case <-tick.C:
		case <-late:
			return false
		}
	}
}

// peer is a client that says exactly what it is told to.
type peer struct {
	t testing.TB
	*net.TCPConn
	r *bufio.Reader
}

func (s *server) dial() *peer {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	tcp, _ := c.(*net.TCPConn)
	return &peer{s.t, tcp, bufio.NewReader(c)}
}

func (p *peer) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p, text); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// get sends a request with further header lines.
func (p *peer) get(path string, lines ...string) {
	p.t.Helper()
	text := "GET " + path + " HTTP/1.1\r\nHost: test\r\n"
	for _, l := range lines {
		text += l + "\r\n"
	}
	p.send(text + "\r\n")
}

// response reads the head of a response.
func (p *peer) response() *http.Response {
	p.t.Helper()
	r, err := http.ReadResponse(p.r, nil)
	if err != nil {
		p.t.Fatalf("read response: %v", err)
	}
	return r
}

// want reads a whole response.
func (p *peer) want(body string) *http.Response {
	p.t.Helper()
	r := p.response()
	got, err := io.ReadAll(r.Body)
	if err != nil || string(got) != body {
		p.t.Errorf("body %.100q, %v; want %.100q", got, err, body)
	}
	if r.Header.Get("Date") == "" || r.Header.Get("Cache-Control") != "no-store" {
		p.t.Errorf("header %v", r.Header)
	}
	return r
}

// wantEnd checks that the server closed the connection in order.
func (p *peer) wantEnd() {
	p.t.Helper()
	if b, err := p.r.ReadByte(); err != io.EOF {
		p.t.Errorf("read %q, %v; want the end", b, err)
	}
}

func line(text string) *frame.Frame { return frame.Line([]byte(text)) }
