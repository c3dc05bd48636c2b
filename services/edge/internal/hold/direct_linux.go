package hold

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Direct has a handler serve the requests that are taken where they are found,
// if they came whole and in the plainest form there is: no goroutine, buffer or
// context is made for them. Package net/http's parser reads them too, and its
// server gets all others. The handler must not block, nor flush, hijack or
// stream. It is called before Run.
func (e *Engine) Direct(handler http.Handler, takes func(*http.Request) bool) {
	for _, w := range e.workers {
		w.direct = newDirect(e, handler, takes)
	}
}

// directSize bounds the requests that are served directly.
const directSize = 16 << 10

// direct serves requests on the polling goroutine of a worker.
type direct struct {
	engine  *Engine
	handler http.Handler
	takes   func(*http.Request) bool

	bytes  bytes.Reader // of the request that is served, as are the next four
	reader *bufio.Reader
	lease  lease
	header http.Header
	body   []byte
	status int
}

func newDirect(e *Engine, handler http.Handler, takes func(*http.Request) bool) *direct {
	d := &direct{engine: e, handler: handler, takes: takes, header: http.Header{}}
	d.reader = bufio.NewReaderSize(&d.bytes, directSize)
	return d
}

// arrive reads what came on an idle connection, and serves it or has net/http
// do so. It takes the lock over.
func (d *direct) arrive(c *conn, buffer []byte) {
	n, err := c.readLocked(buffer)
	if n == 0 || err != nil {
		if !errors.Is(err, unix.EAGAIN) {
			c.closeLocked() // of what is idle nobody needs to hear
		}
		c.mu.Unlock()
		return
	}
	c.fresh = false
	c.enterLocked(serving)
	c.readBy.Store(0)
	r, head := d.request(buffer[:n])
	if r == nil {
		c.lease = newLease(c)
		c.lease.early = bytes.Clone(buffer[:n])
		if !c.door.push(c.lease) {
			c.closeLocked()
		}
		c.mu.Unlock()
		return
	}
	d.lease = lease{conn: c, read: int64(n), head: int64(head), scan: over}
	d.lease.changed.L = &c.mu
	c.lease = &d.lease
	c.mu.Unlock()
	r.RemoteAddr = c.peer.String()
	d.serve(r)
}

// serve calls the handler, and answers with what it wrote if it has not had the
// request held.
func (d *direct) serve(r *http.Request) {
	c := d.lease.conn
	defer func() {
		c.mu.Lock()
		lost := c.lease == &d.lease
		if lost {
			c.closeLocked()
		}
		c.mu.Unlock()
		if p := recover(); p != nil && lost {
			d.engine.cfg.Failed(fmt.Errorf("serve %s: panic: %v\n%s", r.URL.Path, p, debug.Stack()))
		}
	}()
	clear(d.header)
	d.body, d.status = nil, 0
	d.handler.ServeHTTP(d, r)
	c.mu.Lock()
	waits := c.lease == &d.lease
	c.mu.Unlock()
	if waits {
		d.answer(r)
	}
}

// answer sends what the handler wrote.
func (d *direct) answer(r *http.Request) {
	x := New(0)
	x.Answer(Answer{Status: cmp.Or(d.status, http.StatusOK)})
	d.engine.Hold(d, r, x, written{
		Status: cmp.Or(d.status, http.StatusOK),
		Type:   cmp.Or(d.header.Get("Content-Type"), http.DetectContentType(d.body)),
		Body:   d.body,
	})
}

// written is a response that a handler wrote.
type written Reply

// Reply implements [Replier].
func (w written) Reply(Answer) Reply { return Reply(w) }

// Header implements [http.ResponseWriter].
func (d *direct) Header() http.Header { return d.header }

// WriteHeader implements [http.ResponseWriter].
func (d *direct) WriteHeader(status int) { d.status = cmp.Or(d.status, status) }

// Write implements [http.ResponseWriter].
func (d *direct) Write(p []byte) (int, error) {
	d.body = append(d.body, p...)
	return len(p), nil
}

// SetReadDeadline is for [http.ResponseController]. The body has come.
func (d *direct) SetReadDeadline(time.Time) error { return nil }

// request parses a request that is served directly and says where its head
// ends, or returns nil.
func (d *direct) request(b []byte) (r *http.Request, head int) {
	if head = plainHead(b); head == 0 {
		return nil, 0
	}
	d.bytes.Reset(b)
	d.reader.Reset(&d.bytes)
	r, err := http.ReadRequest(d.reader)
	if err != nil || !plainRequest(r) || int64(head)+r.ContentLength != int64(len(b)) || !d.takes(r) {
		return nil, 0
	}
	return r, head
}

// plainHead returns where a request's head ends, or 0 if it is not there, or
// has anything in it that parsers might disagree about.
func plainHead(b []byte) int {
	hosts := 0
	for at, first := 0, true; ; first = false {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 1 || b[at+n-1] != '\r' {
			return 0
		}
		line := b[at : at+n-1]
		at += n + 1
		switch {
		case !printable(line):
			return 0
		case first:
			continue
		case len(line) == 0:
			if hosts != 1 {
				return 0
			}
			return at
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || bytes.IndexByte(line[:colon], ' ') >= 0 {
			return 0
		}
		if len("host") == colon && strings.EqualFold(string(line[:colon]), "host") {
			hosts++
		}
	}
}

func printable(line []byte) bool {
	const del = 0x7f
	for _, c := range line {
		if c < ' ' || c >= del {
			return false
		}
	}
	return true
}

// plainRequest reports whether nothing about a request asks for more than to be
// answered on a connection that is used again.
func plainRequest(r *http.Request) bool {
	for _, name := range []string{"Expect", "Upgrade", "Trailer", "Te", "Http2-Settings"} {
		if _, ok := r.Header[name]; ok {
			return false
		}
	}
	connection := r.Header["Connection"]
	return r.Proto == "HTTP/1.1" && r.ContentLength >= 0 && len(r.TransferEncoding) == 0 &&
		(len(connection) == 0 || len(connection) == 1 && strings.EqualFold(connection[0], "keep-alive")) &&
		strings.Trim(r.Host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") == ""
}
