// Package event is a message on its way to clients, in every form in which it
// may go on the wire.
//
//  1. An event is encoded when a form is first needed, for all that share it.
//     It may be used by many at once.
//  2. What was published as data, ext and further members stays byte for byte
//     what it was, except that line breaks between tokens become spaces where
//     lines frame messages, and escapes replace what scripts cannot hold.
package event

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/frame"
)

// overhead is what an event counts for beyond its bytes; credits between nodes
// count the same.
const overhead = 64

// Event is a message of a channel.
type Event struct {
	// Channel is literal.
	Channel string
	// At is the entry's place; its Offset is 0 if it is no entry.
	At shard.Position

	notice             bool
	data, ext, members []byte
	appended           time.Time
	texts              [texts]atomic.Pointer[[]byte]
	frames             [encodings]atomic.Pointer[frame.Frame]
}

// New makes the event of a log entry. It keeps data, ext and members. appended
// is when it was appended, if known.
func New(channel string, at shard.Position, data, ext, members []byte, appended time.Time) *Event {
	return &Event{Channel: channel, At: at, data: data, ext: ext, members: members, appended: appended}
}

// NewMessage makes a message for one session. With id it answers the client's
// message of that id (a remote call), and failed says whether the call failed.
func NewMessage(channel string, data, ext []byte, id string, failed bool) *Event {
	e := &Event{Channel: channel, data: data, ext: ext}
	if id != "" {
		answer := bayeux.Message{ID: quote(id), Successful: new(bool)}
		*answer.Successful = !failed
		object := answer.AppendJSON(nil)
		e.members = object[1 : len(object)-1]
	}
	return e
}

// Parts returns what the event was made of, for making it again. They must not
// be changed.
func (e *Event) Parts() (data, ext, members []byte) { return e.data, e.ext, e.members }

// Call returns which message of the client a message for one session answers,
// if any, and whether the call failed: what NewMessage was given.
func (e *Event) Call() (id string, failed bool) {
	var answer struct {
		ID         string
		Successful bool
	}
	if e.At.Offset != 0 || len(e.members) == 0 {
		return "", false
	}
	if err := json.Unmarshal(slices.Concat([]byte("{"), e.members, []byte("}")), &answer); err != nil {
		return "", false // members of NewMessage are always well formed
	}
	return answer.ID, !answer.Successful
}

// NewNotice makes what stands for the loss of events of a subscription, to a
// channel or pattern.
func NewNotice(subscription string) *Event { return &Event{Channel: subscription, notice: true} }

// Notice reports whether the event only says that others were lost.
func (e *Event) Notice() bool { return e.notice }

// Appended is when the event was appended to the log, zero if unknown.
func (e *Event) Appended() time.Time { return e.appended }

// Size is how many bytes the event counts for in queues, about what it takes.
func (e *Event) Size() int {
	return len(e.Channel) + len(e.data) + len(e.ext) + len(e.members) + overhead
}

// text is a JSON form.
type text uint8

const (
	bayeuxText text = iota
	replayText
	plainText
	texts
)

// JSON is the Bayeux message; it is shared and must not be changed.
func (e *Event) JSON() []byte { return e.text(bayeuxText) }

// Replay is JSON with ext.replay.id, the offset, for clients of the replay
// extension; it is shared and must not be changed.
func (e *Event) Replay() []byte {
	if e.At.Offset == 0 {
		return e.JSON()
	}
	return e.text(replayText)
}

// Message is the object of plain channels; it is shared and must not be
// changed.
func (e *Event) Message() []byte { return e.text(plainText) }

func (e *Event) text(t text) []byte {
	if made := e.texts[t].Load(); made != nil {
		return *made
	}
	var made []byte
	switch t {
	case replayText:
		made = bayeux.AppendEvent(nil, e.Channel, e.data, e.replayExt(), e.members)
	case plainText:
		made = e.appendMessage(nil)
	default:
		made = bayeux.AppendEvent(nil, e.Channel, e.data, e.ext, e.members)
	}
	e.texts[t].CompareAndSwap(nil, &made) // of two who made it, one keeps its own
	return *e.texts[t].Load()
}

func (e *Event) appendMessage(b []byte) []byte {
	b = append(append(b, `{"channel":`...), quote(e.Channel)...)
	b = strconv.AppendUint(append(b, `,"position":`...), e.At.Offset, 10)
	b = append(append(b, `,"data":`...), e.data...)
	if len(e.ext) > 0 {
		b = append(append(b, `,"ext":`...), e.ext...)
	}
	return append(b, '}')
}

// replayExt returns the event's ext with a member replay at its end.
func (e *Event) replayExt() []byte {
	inner := bytes.TrimSpace(e.ext)
	if len(inner) >= 2 {
		inner = bytes.TrimSpace(inner[1 : len(inner)-1])
	}
	ext := append(make([]byte, 0, len(inner)+len(`{,"replay":{"id":9007199254740992}}`)), '{')
	if len(inner) > 0 {
		ext = append(append(ext, inner...), ',')
	}
	ext = append(ext, `"replay":{"id":`...)
	ext = strconv.AppendUint(ext, e.At.Offset, 10)
	return append(ext, `}}`...)
}

// quote returns text as a JSON string.
func quote(text string) json.RawMessage {
	raw, err := json.Marshal(text)
	if err != nil {
		return json.RawMessage(`""`) // a string always has an encoding
	}
	return raw
}
