package plain

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
)

// Cursors are JSON strings in every object, also where they are a position: one
// form for all channels, and safe where numbers lose digits.

// AppendOpen appends the object that is first on every stream. heartbeat is in
// seconds; padding is a number of bytes.
func AppendOpen(b []byte, cursor string, heartbeat time.Duration, padding int) []byte {
	b = appendCursor(append(b, `{"type":"open"`...), cursor)
	b = append(b, `,"heartbeat":`...)
	b = strconv.AppendFloat(b, heartbeat.Seconds(), 'f', -1, 64)
	if padding > 0 {
		b = append(b, `,"padding":"`...)
		for range padding {
			b = append(b, '.')
		}
		b = append(b, '"')
	}
	return append(b, '}')
}

// AppendHeartbeat appends the object that says that nothing was missed up to
// the cursor.
func AppendHeartbeat(b []byte, cursor string) []byte {
	return append(appendCursor(append(b, `{"type":"heartbeat"`...), cursor), '}')
}

// AppendCursor appends the object that says where several channels stand.
func AppendCursor(b []byte, cursor string) []byte {
	return append(appendCursor(append(b, `{"type":"cursor"`...), cursor), '}')
}

// AppendResync appends the object that says which channels have lost history.
func AppendResync(b []byte, cursor string, channels []string) []byte {
	b = appendCursor(append(b, `{"type":"resync"`...), cursor)
	return append(appendStrings(append(b, `,"channels":`...), channels), '}')
}

// AppendEnd appends the object that is last on every stream. A stream that
// never began has no cursor, but a detail: a sentence that says why. A client
// that must not come back gets no retry.
func AppendEnd(b []byte, reason Reason, cursor string, retry time.Duration, detail string) []byte {
	b = appendString(append(b, `{"type":"end","reason":`...), string(reason))
	if cursor != "" {
		b = appendCursor(b, cursor)
	}
	if retry > 0 {
		b = append(b, `,"retry":`...)
		b = strconv.AppendInt(b, retry.Milliseconds(), 10)
	}
	if detail != "" {
		b = appendString(append(b, `,"detail":`...), detail)
	}
	return append(b, '}')
}

// Batch is what a poll or long-poll is answered with.
type Batch struct {
	Events []*event.Event
	Cursor string
	// Resync are the channels that have lost history; Events has none of them.
	Resync []string
	// End and Retry are set when the edge leaves.
	End   Reason
	Retry time.Duration
}

// Append appends the batch as JSON.
func (a *Batch) Append(b []byte) []byte {
	b = append(b, `{"messages":[`...)
	for i, e := range a.Events {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e.Message()...)
	}
	b = appendCursor(append(b, ']'), a.Cursor)
	if len(a.Resync) > 0 {
		b = appendStrings(append(b, `,"resync":`...), a.Resync)
	}
	if a.End != "" {
		b = appendString(append(b, `,"end":`...), string(a.End))
		b = append(b, `,"retry":`...)
		b = strconv.AppendInt(b, a.Retry.Milliseconds(), 10)
	}
	return append(b, '}')
}

func appendCursor(b []byte, cursor string) []byte {
	return appendString(append(b, `,"cursor":`...), cursor)
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

func appendString(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // a string always has an encoding
	}
	return append(b, quoted...)
}

// firstRetry is what clients of server-sent events wait before they connect
// again, if the stream has no end.
const firstRetry = 2 * time.Second

// Control returns the frame of a control object. The cursor is the one in it,
// which server-sent events also have as their id; it may be empty.
func Control(as event.Encoding, cursor string, object []byte) *frame.Frame {
	switch as {
	case event.SSE, event.SSEWithoutID:
		return frame.SSE(controlEvent, cursor, object)
	case event.Part:
		return frame.Part(object)
	case event.Script:
		return frame.Script(object)
	case event.Text:
		return frame.Text(object)
	}
	return frame.Line(object)
}

// controlEvent is the type of server-sent events that are no messages.
const controlEvent = "comet"

// First returns the frame that begins a stream: open, or an end of one that is
// not served. callback is the function of the parent that a frame document
// calls; it has been checked.
func First(as event.Encoding, callback, cursor string, object []byte) *frame.Frame {
	switch as {
	case event.SSE, event.SSEWithoutID:
		return frame.SSERetry(firstRetry, controlEvent, cursor, object)
	case event.Part:
		return frame.FirstPart(object)
	case event.Script:
		return frame.Document(callback, object)
	}
	return Control(as, cursor, object)
}

// Final returns the frame of an end, and what closes the stream behind it; nil
// if nothing does.
func Final(as event.Encoding, reason Reason, cursor string, retry time.Duration) (end, last *frame.Frame) {
	object := AppendEnd(nil, reason, cursor, retry, "")
	switch as {
	case event.SSE, event.SSEWithoutID:
		return frame.SSERetry(retry, controlEvent, cursor, object), nil
	case event.Part:
		return frame.LastPart(object), nil
	case event.Text:
		return frame.Text(object), frame.Close(reason.closeCode(), string(reason))
	}
	return Control(as, cursor, object), nil
}

// closeCode is the status with which a WebSocket is closed.
func (r Reason) closeCode() uint16 {
	switch r {
	case Draining:
		return 1012 // service restart
	case Slow, Limit:
		return 1013 // try again later
	case Expired, Denied:
		return 1008 // policy violation
	}
	return 1011 // internal error
}
