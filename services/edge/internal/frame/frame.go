// Package frame makes what goes on the wire: the bytes of one message in the
// form of one transport, made once and shared by every connection that gets it.
//
//  1. A Frame never changes, so any number of connections may hold it.
//  2. A frame of a stream is one HTTP/1.1 chunk. Whoever writes to a response
//     that chunks by itself, or not at all, takes its payload.
//  3. In what browsers run as script, no byte of a payload can end the script
//     or the string it stands in.
package frame

import (
	"bytes"
	"strconv"

	"github.com/gobwas/ws"
)

// Frame is a piece of a response or of a WebSocket.
type Frame struct {
	wire     []byte
	from, to int // the payload in it
}

// Wire is what is written to an HTTP/1.1 connection.
func (f *Frame) Wire() []byte { return f.wire }

// Payload is what the peer's application gets.
func (f *Frame) Payload() []byte { return f.wire[f.from:f.to] }

// Len is the size on the wire.
func (f *Frame) Len() int { return len(f.wire) }

// Raw returns a frame of these bytes alone, for responses without chunks.
func Raw(wire []byte) *Frame { return &Frame{wire: wire, to: len(wire)} }

// Chunk returns a frame of one chunk of a response, which must not be empty.
func Chunk(payload []byte) *Frame {
	const around = len("ffffffff\r\n\r\n")
	wire := make([]byte, 0, len(payload)+around)
	wire = strconv.AppendInt(wire, int64(len(payload)), 16)
	wire = append(wire, "\r\n"...)
	from := len(wire)
	wire = append(wire, payload...)
	to := len(wire)
	return &Frame{wire: append(wire, "\r\n"...), from: from, to: to}
}

// Text returns a frame of one text message of a WebSocket.
func Text(message []byte) *Frame {
	return webSocket(ws.NewTextFrame(message))
}

// Ping returns a ping of a WebSocket, whose pong has the same payload.
func Ping(payload ...byte) *Frame { return webSocket(ws.NewPingFrame(payload)) }

// Close returns the closing frame of a WebSocket.
func Close(code uint16, reason string) *Frame {
	return webSocket(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(code), reason)))
}

func webSocket(f ws.Frame) *Frame {
	var wire bytes.Buffer
	wire.Grow(ws.HeaderSize(f.Header) + len(f.Payload))
	_ = ws.WriteFrame(&wire, f) // a buffer takes everything
	return &Frame{wire: wire.Bytes(), from: wire.Len() - len(f.Payload), to: wire.Len()}
}
