package session

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// overhead is what an event counts for beyond its bytes; credits between nodes
// count the same.
const overhead = 64

// Event is a message on its way to clients. It is encoded at most once per
// encoding, when first needed, for all sessions that share it, and may be used
// by many of them at once.
type Event struct {
	// Channel is literal.
	Channel string
	// At is the entry's place; its Offset is 0 if it is no entry.
	At shard.Position

	notice             bool // stands for the loss of events of Channel, see notice
	data, ext, members []byte
	appended           time.Time
	plain, replay      encoding
}

type encoding struct {
	once sync.Once
	text []byte
}

// NewEvent makes the event of a log entry. It keeps data, ext and members.
// appended is when it was appended, if known.
func NewEvent(channel string, at shard.Position, data, ext, members []byte, appended time.Time) *Event {
	return &Event{Channel: channel, At: at, data: data, ext: ext, members: members, appended: appended}
}

// NewMessage makes a message for Send. With id it answers the client's message
// of that id (a remote call), and failed says whether the call failed.
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

// JSON is the Bayeux message; it is shared and must not be changed.
func (e *Event) JSON() []byte {
	e.plain.once.Do(func() {
		e.plain.text = bayeux.AppendEvent(nil, e.Channel, e.data, e.ext, e.members)
	})
	return e.plain.text
}

// Replay is JSON with ext.replay.id, the offset, for clients of the replay
// extension; it is shared and must not be changed.
func (e *Event) Replay() []byte {
	if e.At.Offset == 0 {
		return e.JSON()
	}
	e.replay.once.Do(func() {
		e.replay.text = bayeux.AppendEvent(nil, e.Channel, e.data, e.replayExt(), e.members)
	})
	return e.replay.text
}

// Size is how many bytes the event counts for in queues, about what it takes.
func (e *Event) Size() int {
	return len(e.Channel) + len(e.data) + len(e.ext) + len(e.members) + overhead
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
