package hold

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"time"
)

// Hold implements [Holder].
func (e *Engine) Hold(w http.ResponseWriter, r *http.Request, x *Exchange, replier Replier) {
	l := leaseOf(w, r)
	_, isDirect := w.(*direct)
	if _, answered := x.taken(); answered && !isDirect || l == nil {
		e.Waiting.Hold(w, r, x, replier)
		return
	}
	x.replier = replier
	fields := e.heads.fields(w.Header(), e.exchangeFields)
	end, ok := l.park(w, r, exchange, func(c *conn) { c.exchange, c.fields = x, fields })
	switch {
	case ok:
	case isDirect: // closed meanwhile
		x.over(false)
		return
	default:
		e.Waiting.Hold(w, r, x, replier)
		return
	}
	x.hold(l.conn)
	end.tell()
}

// Stream implements [Streamer].
func (e *Engine) Stream(w http.ResponseWriter, r *http.Request, s *Stream) {
	l := leaseOf(w, r)
	if l == nil {
		e.Waiting.Stream(w, r, s)
		return
	}
	fields := e.heads.fields(w.Header(), e.streamFields)
	end, ok := l.park(w, r, streaming, func(c *conn) { c.stream, c.fields, c.last = s, fields, false })
	if !ok {
		e.Waiting.Stream(w, r, s)
		return
	}
	s.hold(l.conn)
	l.conn.wake() // for the head
	end.tell()
}

// Socket implements [Streamer].
func (e *Engine) Socket(w http.ResponseWriter, r *http.Request, s *Stream, o SocketOptions, receive Receiver) {
	l := leaseOf(w, r)
	if l == nil {
		e.Waiting.Socket(w, r, s, o, receive)
		return
	}
	_, sent, ok := upgrade(w, r, o, e.cfg.WriteTimeout)
	if !ok {
		s.over(false)
		return
	}
	c := l.conn
	c.mu.Lock()
	if ok = c.lease == l; ok {
		l.releaseLocked()
		c.enterLocked(upgraded)
		c.stream, c.last, c.reading = s, true, true
		c.socket = &socket{stream: s, receive: receive, most: o.MaxMessage}
	}
	c.mu.Unlock()
	if !ok {
		s.over(false)
		return
	}
	s.hold(c)
	c.readEarly(sent)
}

// leaseOf returns the connection of a request that can be parked, or nil.
func leaseOf(w http.ResponseWriter, r *http.Request) *lease {
	if d, ok := w.(*direct); ok {
		return &d.lease
	}
	if r.ProtoMajor != 1 || r.Method == http.MethodHead {
		return nil
	}
	l, _ := r.Context().Value(leaseKey{}).(*lease)
	return l
}

// park takes the connection of a request from net/http and gives it a new state.
// It fails if that can not be done, and nothing was. The ending says that the
// peer went while nobody looked.
//
// As a rule net/http is not told: it finds the connection closed, cleans up and
// puts its buffers back where they came from. If it has read of the next
// request, that has to be taken from it.
func (l *lease) park(w http.ResponseWriter, r *http.Request, s state, set func(*conn)) (ending, bool) {
	c := l.conn
	last := r.Close || strings.EqualFold(w.Header().Get("Connection"), "close")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease != l {
		return ending{}, false
	}
	var more []byte
	if end := l.endOf(r); end >= l.read {
		clear(w.Header()) // a response will be made, for nobody
		last = last || end > l.read
	} else {
		c.mu.Unlock()
		from, ok := l.hijack(w, r)
		c.mu.Lock()
		if !ok {
			return ending{}, false
		}
		more = from.more
		last = last || from.unread || from.read != l.read
	}
	set(c)
	if c.lease != l { // closed meanwhile
		end := ending{c.exchange, c.stream}
		c.exchange, c.stream = nil, nil
		return end, true
	}
	l.releaseLocked()
	c.enterLocked(s)
	c.old = !r.ProtoAtLeast(1, 1)
	c.last = s == exchange && (last || c.old)
	if len(more) > 0 && s == exchange && !c.last {
		c.extra = &extra{early: more}
	}
	if c.hungUp && !c.answersLocked() {
		return c.cutLocked(Gone), true
	}
	return ending{}, true
}

// endOf is how many bytes of the connection the request takes, or -1.
func (l *lease) endOf(r *http.Request) int64 {
	if l.head == 0 || r.ContentLength < 0 {
		return -1
	}
	return l.head + r.ContentLength
}

// hijacked is what is known of a connection that was hijacked.
type hijacked struct {
	more   []byte // read of the next request
	unread bool   // not all of this one was read
	read   int64  // of the connection
}

func (l *lease) hijack(w http.ResponseWriter, r *http.Request) (hijacked, bool) {
	_, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return hijacked{}, false
	}
	l.conn.mu.Lock()
	h := hijacked{read: l.read}
	l.conn.mu.Unlock()
	if r.Body != http.NoBody {
		_ = l.SetReadDeadline(time.Unix(1, 0)) // what has not come is not waited for
		var one [1]byte
		n, err := r.Body.Read(one[:])
		h.unread = n > 0 || err != io.EOF
	}
	h.more = early(buffered.Reader)
	return h, true
}

// scan finds the end of a request's head in the bytes of a connection: the
// first empty line. The zero scan stands at their beginning.
type scan uint8

const (
	inLine    scan = iota
	afterLine      // at the beginning of the next
	afterCR        // there
	over           // it was found, or is not looked for any more
)

// end returns where the head ends in the next bytes, or 0.
func (s *scan) end(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch *s {
		case inLine:
			n := bytes.IndexByte(b[i:], '\n')
			if n < 0 {
				return 0
			}
			i += n
			*s = afterLine
		case afterLine, afterCR:
			switch {
			case b[i] == '\n':
				*s = over
				return i + 1
			case b[i] == '\r' && *s == afterLine:
				*s = afterCR
			default:
				*s = inLine
			}
		case over:
			return 0
		}
	}
	return 0
}
