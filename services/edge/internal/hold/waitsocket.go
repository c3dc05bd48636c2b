package hold

import (
	"errors"
	"net"
	"net/http"
	"time"
)

// Socket implements [Streamer].
func (h Waiting) Socket(w http.ResponseWriter, r *http.Request, s *Stream, o SocketOptions, receive Receiver) {
	conn, sent, ok := upgrade(w, r, o, h.WriteTimeout)
	if !ok {
		s.over(false)
		return
	}
	changed := newBell()
	s.hold(changed)
	in := &socket{stream: s, receive: receive, most: o.MaxMessage}
	read := make(chan struct{})
	var readErr error // set before read is closed
	go func() {
		defer close(read)
		readErr = h.read(conn, in, sent)
	}()
	last, err := h.pump(r.Context(), s, wires{conn, h.WriteTimeout}, changed, read)
	s.over(last == afterEnd)
	if last == afterEnd { // let the peer close, so that it sees all of it
		cutoff := time.AfterFunc(lingering, func() { _ = conn.Close() })
		<-read
		cutoff.Stop()
	}
	_ = conn.Close()
	<-read
	if errors.Is(err, errGone) {
		err = readErr // says why
	}
	h.count(err)
}

// read reads a WebSocket until it ends; nil: as the protocol has it.
func (h Waiting) read(conn net.Conn, in *socket, sent []byte) error {
	const size = 4 << 10
	buffer := make([]byte, size)
	for {
		n := copy(buffer, sent)
		sent = sent[n:]
		if n == 0 {
			var err error
			if n, err = h.receive(conn, buffer, in.parser != nil); n == 0 && err != nil {
				_ = conn.Close() // no write may wait any more
				return err
			}
		}
		more, breach := in.feed(buffer[:n])
		if breach {
			h.cut(Protocol)
		}
		if !more {
			return nil
		}
	}
}

// receive reads; the rest of a message has to come in time.
func (h Waiting) receive(conn net.Conn, buffer []byte, rest bool) (int, error) {
	var limit time.Time
	if rest {
		limit = time.Now().Add(h.WriteTimeout)
	}
	if err := conn.SetReadDeadline(limit); err != nil {
		return 0, err
	}
	return conn.Read(buffer)
}

// wires is a stream that is a WebSocket.
type wires struct {
	conn    net.Conn
	timeout time.Duration
}

func (o wires) view() view { return wire }

func (o wires) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := o.conn.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
		return err
	}
	_, err := o.conn.Write(b)
	return err
}

func (o wires) flush() error { return nil }
