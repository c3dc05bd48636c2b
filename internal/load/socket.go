package load

import (
	"encoding/binary"
	"errors"

	"github.com/gobwas/ws"
)

// socket reads the frames of a WebSocket from bytes as they arrive. It keeps
// none of them but an unfinished header.
type socket struct {
	op    ws.OpCode // of the message, or of the control frame
	final bool      // the frame is its message's last

	message ws.OpCode // of the fragmented message
	left    uint64    // of the frame
	inFrame bool
	header  [10]byte
	have    int // bytes of the header
}

// feed takes bytes and returns a piece of a payload in them, and what is behind
// it, to be fed next. done says that a message, or a control frame, is
// complete with it: op says which.
func (s *socket) feed(b []byte) (payload, rest []byte, done bool, err error) {
	if !s.inFrame {
		if b, err = s.readHeader(b); err != nil || !s.inFrame {
			return nil, nil, false, err
		}
	}
	n := int(min(uint64(len(b)), s.left))
	s.left -= uint64(n)
	if s.left > 0 {
		return b[:n], nil, false, nil
	}
	s.inFrame, s.have = false, 0
	return b[:n], b[n:], s.final, nil
}

// readHeader takes a header, or a part of one.
func (s *socket) readHeader(b []byte) (rest []byte, err error) {
	for need := s.needs(); s.have < need; need = s.needs() {
		n := copy(s.header[s.have:need], b)
		if n == 0 {
			return nil, nil
		}
		s.have, b = s.have+n, b[n:]
	}
	first, second := s.header[0], s.header[1]
	if first&0x70 != 0 || second&0x80 != 0 {
		return nil, errors.New("the server sent a compressed or masked frame, which nobody asked for")
	}
	switch s.left = uint64(second); second {
	case 126:
		s.left = uint64(binary.BigEndian.Uint16(s.header[2:]))
	case 127:
		s.left = binary.BigEndian.Uint64(s.header[2:])
	}
	s.op, s.final, s.inFrame = ws.OpCode(first&0x0f), first&0x80 != 0, true
	switch {
	case s.op.IsControl():
		if !s.final || s.left > ws.MaxControlFramePayloadSize {
			return nil, errors.New("the server sent a control frame that is too long or in parts")
		}
	case s.op == ws.OpContinuation:
		s.op = s.message
	default:
		s.message = s.op
	}
	return b, nil
}

// needs is how long the header is, as far as it is known.
func (s *socket) needs() int {
	if s.have < 2 {
		return 2
	}
	switch s.header[1] &^ 0x80 {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

// appendFrame appends a client's frame.
func appendFrame(b []byte, op ws.OpCode, payload []byte) []byte {
	f := ws.NewFrame(op, true, payload)
	compiled, err := ws.CompileFrame(ws.MaskFrame(f))
	if err != nil {
		return b // unreachable: a buffer takes everything
	}
	return append(b, compiled...)
}
