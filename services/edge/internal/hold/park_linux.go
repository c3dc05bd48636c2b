package hold

import (
	"io"
	"net/http"
	"strings"
	"time"
)

// Hold implements [Holder].
func (e *Engine) Hold(w http.ResponseWriter, r *http.Request, x *Exchange, replier Replier) {
	_, answered := x.taken()
	l := leaseOf(r)
	if answered || l == nil {
		e.Waiting.Hold(w, r, x, replier)
		return
	}
	p, ok := l.take(w, r)
	if !ok {
		e.Waiting.Hold(w, r, x, replier)
		return
	}
	fields := e.heads.fields(w.Header(), e.exchangeFields)
	x.replier = replier
	c := l.conn
	end, ok := c.park(l, exchange, func() {
		c.exchange, c.fields = x, fields
		c.old, c.last = p.old, p.last || p.old || l.read != p.read
		if len(p.early) > 0 && !c.last {
			c.extra = &extra{early: p.early}
		}
	})
	if !ok {
		x.over(false)
		return
	}
	x.hold(c)
	end.tell()
}

// Stream implements [Streamer].
func (e *Engine) Stream(w http.ResponseWriter, r *http.Request, s *Stream) {
	l := leaseOf(r)
	if l == nil {
		e.Waiting.Stream(w, r, s)
		return
	}
	p, ok := l.take(w, r)
	if !ok {
		e.Waiting.Stream(w, r, s)
		return
	}
	fields := e.heads.fields(w.Header(), e.streamFields)
	c := l.conn
	end, ok := c.park(l, streaming, func() {
		c.stream, c.fields, c.old, c.last = s, fields, p.old, false
	})
	if !ok {
		s.over(false)
		return
	}
	s.hold(c)
	c.wake() // for the head
	end.tell()
}

// Socket implements [Streamer].
func (e *Engine) Socket(w http.ResponseWriter, r *http.Request, s *Stream, o SocketOptions, receive Receiver) {
	l := leaseOf(r)
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
	_, ok = c.park(l, upgraded, func() {
		c.stream, c.old, c.last, c.reading = s, false, true, true
		c.socket = &socket{stream: s, receive: receive, most: o.MaxMessage}
	})
	if !ok {
		s.over(false)
		return
	}
	s.hold(c)
	c.readEarly(sent)
}

// leaseOf returns the connection of a request that can be parked, or nil.
func leaseOf(r *http.Request) *lease {
	if r.ProtoMajor != 1 || r.Method == http.MethodHead {
		return nil
	}
	l, _ := r.Context().Value(leaseKey{}).(*lease)
	return l
}

// taken is what is known of a request whose connection was taken from net/http.
type taken struct {
	old   bool   // HTTP/1.0
	last  bool   // no other request may follow
	read  int64  // bytes of the connection
	early []byte // of the next request
}

// take takes the connection from net/http.
func (l *lease) take(w http.ResponseWriter, r *http.Request) (taken, bool) {
	_, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return taken{}, false
	}
	p := taken{old: !r.ProtoAtLeast(1, 1), last: r.Close || wantsClose(w.Header())}
	l.conn.mu.Lock()
	p.read = l.read
	l.conn.mu.Unlock()
	if r.Body != http.NoBody {
		// It must not wait for what has not come.
		_ = l.SetReadDeadline(time.Unix(1, 0))
		var one [1]byte
		if n, err := r.Body.Read(one[:]); n > 0 || err != io.EOF {
			p.last = true
		}
	}
	p.early = early(buffered.Reader)
	return p, true
}

func wantsClose(h http.Header) bool { return strings.EqualFold(h.Get("Connection"), "close") }

// park gives a connection that net/http let go a new state. It fails if the
// connection was closed; the peer may also have gone while nobody looked, which
// the ending says.
func (c *conn) park(l *lease, s state, set func()) (ending, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease != l {
		return ending{}, false
	}
	l.releaseLocked()
	c.enterLocked(s)
	set()
	if c.hungUp && s != upgraded {
		return c.cutLocked(Gone), true
	}
	return ending{}, true
}
