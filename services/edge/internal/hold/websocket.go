package hold

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// parser takes the client's side of a WebSocket apart, in whatever pieces its
// bytes come. The zero parser stands at the beginning of a message and holds no
// memory; one in the middle holds what has come, never what was announced.
type parser struct {
	head [ws.MaxHeaderSize]byte
	got  int // of head, while it is not whole

	frame      ws.Header // under way
	inFrame    bool
	fragmented bool   // more frames of message will come
	done       int    // bytes of frame that came
	control    []byte // of a control frame under way
	message    []byte // so far
}

// item is a whole message (OpText) or control frame.
type item struct {
	op ws.OpCode
	// payload of a message is the caller's, otherwise it is good until the next
	// call.
	payload []byte
}

// fault says why a WebSocket has to be closed, and how.
type fault struct {
	code   ws.StatusCode
	reason string
}

// next returns the next item in data, and the data behind it. It changes data.
// Without an item all of data was taken. Nothing may follow a fault.
func (p *parser) next(data []byte, most int) (item, []byte, *fault) {
	for {
		if !p.inFrame {
			var f *fault
			if data, f = p.header(data, most); f != nil || !p.inFrame {
				return item{}, nil, f
			}
		}
		n := int(min(p.frame.Length-int64(p.done), int64(len(data))))
		part := data[:n]
		data = data[n:]
		ws.Cipher(part, p.frame.Mask, p.done)
		p.done += n
		whole := int64(p.done) == p.frame.Length
		if p.frame.OpCode.IsControl() {
			if !whole || len(p.control) > 0 {
				p.control = append(p.control, part...)
				part = p.control
			}
		} else {
			p.append(part, whole && p.frame.Fin)
		}
		if !whole {
			return item{}, nil, nil
		}
		p.inFrame = false
		switch {
		case p.frame.OpCode.IsControl():
			p.control = nil
			return item{p.frame.OpCode, part}, data, checkControl(p.frame.OpCode, part)
		case p.frame.Fin:
			text := p.message
			p.message, p.fragmented = nil, false
			if !utf8.Valid(text) {
				return item{}, nil, &fault{ws.StatusInvalidFramePayloadData, "text has to be UTF-8"}
			}
			return item{ws.OpText, text}, data, nil
		}
		p.fragmented = true
	}
}

// append appends a part of a message; one that is whole gets its exact size.
func (p *parser) append(part []byte, last bool) {
	if p.message == nil && last {
		p.message = make([]byte, 0, len(part))
	}
	p.message = append(p.message, part...)
}

// idle reports whether the parser stands between messages, as the zero one.
func (p *parser) idle() bool { return p.got == 0 && !p.inFrame && !p.fragmented }

// header takes the header of a frame from data, if it is whole.
func (p *parser) header(data []byte, most int) ([]byte, *fault) {
	for {
		need := 2
		if p.got >= 2 {
			need = headerSize(p.head[1])
		}
		n := copy(p.head[p.got:need], data)
		p.got += n
		data = data[n:]
		if p.got < need {
			return nil, nil
		}
		if need > 2 || headerSize(p.head[1]) == 2 {
			break
		}
	}
	p.frame = parseHeader(&p.head)
	p.got, p.done = 0, 0
	p.inFrame = true
	return data, p.checkHeader(most)
}

func headerSize(second byte) int {
	size := 2
	switch second & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if second&0x80 != 0 {
		size += 4
	}
	return size
}

func parseHeader(head *[ws.MaxHeaderSize]byte) ws.Header {
	h := ws.Header{
		Fin: head[0]&0x80 != 0, Rsv: head[0] >> 4 & 7, OpCode: ws.OpCode(head[0] & 0xf),
		Masked: head[1]&0x80 != 0, Length: int64(head[1] & 0x7f),
	}
	mask := head[2:]
	switch h.Length {
	case 126:
		h.Length = int64(binary.BigEndian.Uint16(mask))
		mask = mask[2:]
	case 127:
		h.Length = int64(binary.BigEndian.Uint64(mask)) // below 0: too long
		mask = mask[8:]
	}
	copy(h.Mask[:], mask)
	return h
}

func (p *parser) checkHeader(most int) *fault {
	state := ws.StateServerSide
	if p.fragmented {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(p.frame, state); err != nil {
		return &fault{ws.StatusProtocolError, err.Error()}
	}
	switch {
	case p.frame.OpCode == ws.OpBinary:
		return &fault{ws.StatusUnsupportedData, "send text"}
	case p.frame.OpCode.IsControl() && p.frame.Length >= 0:
	case p.frame.Length < 0 || p.frame.Length > int64(most-len(p.message)):
		return &fault{ws.StatusMessageTooBig, "the message is too large"}
	}
	return nil
}

func checkControl(op ws.OpCode, payload []byte) *fault {
	if op != ws.OpClose || len(payload) == 0 {
		return nil
	}
	if len(payload) == 1 {
		return &fault{ws.StatusProtocolError, "half a status code"}
	}
	code, reason := ws.ParseCloseFrameData(payload)
	if 1012 <= code && code <= 1014 {
		code = ws.StatusNormalClosure // they came after the RFC
	}
	if err := ws.CheckCloseFrameData(code, reason); err != nil {
		return &fault{ws.StatusProtocolError, err.Error()}
	}
	return nil
}
