package hold

import (
	"bufio"
	"net"
	"net/http"
	"time"

	"github.com/gobwas/ws"

	"github.com/comet-push/comet/services/edge/internal/frame"
)

// lingering is how long a connection that was ended from this side may take to
// end from the other.
const lingering = 2 * time.Second

// upgrade answers an upgrade. What it returns besides the connection is what
// the peer has sent already.
func upgrade(w http.ResponseWriter, r *http.Request, o SocketOptions, timeout time.Duration) (net.Conn, []byte, bool) {
	if r.ProtoMajor != 1 {
		http.Error(w, "a WebSocket needs HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return nil, nil, false
	}
	u := ws.HTTPUpgrader{
		Timeout:  timeout,
		Header:   w.Header(),
		Protocol: func(offered string) bool { return o.Protocol == "" || offered == o.Protocol },
	}
	conn, buffered, _, err := u.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, nil, false
	}
	return conn, early(buffered.Reader), true
}

// early returns a copy of what a hijacked connection's reader holds.
func early(r *bufio.Reader) []byte {
	if r.Buffered() == 0 {
		return nil
	}
	b, _ := r.Peek(r.Buffered()) // it is there
	return append([]byte(nil), b...)
}

// socket is the reading half of a WebSocket.
type socket struct {
	stream  *Stream
	receive Receiver
	most    int
	parser  *parser // nil between messages
}

// feed takes what the peer sent, and changes it. Once there is nothing more to
// read, since the peer closed or breached the protocol, the stream was ended
// with the answer to that. The stream is held.
func (s *socket) feed(data []byte) (more, breach bool) {
	var p parser // not allocated, as a rule
	if s.parser != nil {
		p = *s.parser
	}
	for {
		it, rest, f := p.next(data, s.most)
		if f != nil {
			s.stream.endByPeer(frame.Close(uint16(f.code), f.reason))
			return false, true
		}
		switch it.op {
		case ws.OpText:
			if !s.stream.isOver() {
				s.receive.Message(s.stream.number, it.payload)
			}
		case ws.OpPing:
			s.stream.reply(pong(it.payload))
		case ws.OpClose:
			s.stream.endByPeer(closeEcho(it.payload))
			return false, false
		case ws.OpPong:
			if !s.stream.isOver() {
				s.receive.Pong(s.stream.number, it.payload)
			}
		default:
			s.keep(&p)
			return true, false
		}
		data = rest
	}
}

// keep keeps the parser until more comes, if it stands in the middle of a message.
func (s *socket) keep(p *parser) {
	if p.idle() {
		s.parser = nil
		return
	}
	kept := *p
	s.parser = &kept
}

func pong(payload []byte) *frame.Frame {
	return frame.Raw(ws.MustCompileFrame(ws.NewPongFrame(payload)))
}

// closeEcho answers a closing frame with its code.
func closeEcho(payload []byte) *frame.Frame {
	code, _ := ws.ParseCloseFrameData(payload)
	if code.Empty() {
		code = ws.StatusNormalClosure
	}
	return frame.Close(uint16(code), "")
}
