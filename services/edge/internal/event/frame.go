package event

import (
	"strconv"

	"github.com/comet-push/comet/services/edge/internal/frame"
)

// Encoding is a form in which events go to connections that stay open.
type Encoding uint8

// The encodings.
const (
	BayeuxText   Encoding = iota // a WebSocket message: an array of the Bayeux message
	ReplayText                   // likewise, with the replay extension's id
	SSE                          // a server-sent event whose id is the position
	SSEWithoutID                 // one without id, for readers of several channels
	Line                         // a line of JSON
	Part                         // a part of a multipart response
	Script                       // a script element
	Text                         // a WebSocket message
	encodings
)

// Frame returns the event in an encoding; it is made once and shared.
func (e *Event) Frame(as Encoding) *frame.Frame {
	if made := e.frames[as].Load(); made != nil {
		return made
	}
	e.frames[as].CompareAndSwap(nil, e.encode(as)) // of two who made it, one keeps its own
	return e.frames[as].Load()
}

func (e *Event) encode(as Encoding) *frame.Frame {
	switch as {
	case BayeuxText:
		return frame.Text(array(e.JSON()))
	case ReplayText:
		return frame.Text(array(e.Replay()))
	case SSE:
		return frame.SSE("", strconv.FormatUint(e.At.Offset, 10), e.Message())
	case SSEWithoutID:
		return frame.SSE("", "", e.Message())
	case Part:
		return frame.Part(e.Message())
	case Script:
		return frame.Script(e.Message())
	case Text:
		return frame.Text(e.Message())
	}
	return frame.Line(e.Message())
}

func array(object []byte) []byte {
	b := append(make([]byte, 0, len(object)+len("[]")), '[')
	return append(append(b, object...), ']')
}
