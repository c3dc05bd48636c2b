package channels

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/web"
)

const maxID = 256 // bytes of a message's id

// isUpgrade reports whether a request asks for a WebSocket. Whether it asks
// rightly is for the streamer to see.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 &&
		listed(r.Header, "Connection", "upgrade") && listed(r.Header, "Upgrade", "websocket")
}

// listed reports whether a header that is a list holds a token.
func listed(header http.Header, name, token string) bool {
	for _, line := range header.Values(name) {
		for element := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(element), token) {
				return true
			}
		}
	}
	return false
}

// Message is what a client sends over a WebSocket.
type Message struct {
	Publication

	// ID is the client's own name for it, or empty.
	ID string
}

// ParseMessage reads a message of a client. It returns what it knows of the
// message even if there is a problem. It does not check permissions.
func ParseMessage(text []byte) (Message, *web.Problem) {
	const wrapped = 1 // the message is an object around data
	if err := bayeux.CheckObject(text, bayeux.DefaultLimits().Depth+wrapped); err != nil {
		return Message{}, badMessage(err)
	}
	var given members
	if err := json.Unmarshal(text, &given); err != nil {
		return Message{}, badMessage(err)
	}
	var m Message
	var p *web.Problem
	if m.ID, p = given.text("id", "7"); p != nil {
		return m, p
	}
	if len(m.ID) > maxID {
		return Message{}, badParameter("the id has %d bytes; at most %d are allowed", len(m.ID), maxID)
	}
	if p = given.check(); p != nil {
		return m, p
	}
	if m.Channel, p = given.text("channel", "/a"); p != nil {
		return m, p
	}
	if m.Key, p = given.text("idempotencyKey", "k7"); p != nil {
		return m, p
	}
	m.Data = given["data"]
	if p := checkChannel(m.Channel); p != nil {
		return m, p
	}
	if p := checkLiteral(m.Channel); p != nil {
		return m, p
	}
	if m.Data == nil {
		return m, refusal(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_DATA_INVALID, "the message has no data; send null for nothing")
	}
	return m, checkKey(m.Key)
}

// members are those of a message.
type members map[string]json.RawMessage

// check refuses members that are unknown.
func (m members) check() *web.Problem {
	known := []string{"channel", "data", "id", "idempotencyKey"}
	for _, name := range slices.Sorted(maps.Keys(m)) { // the same message, the same answer
		if !slices.Contains(known, name) {
			return badParameter("unknown member %s of a message; %s", shorten(name), suggestion(name, known))
		}
	}
	return nil
}

// text returns a member that is a string; empty if it is not there, or null.
func (m members) text(name, example string) (text string, p *web.Problem) {
	raw, given := m[name]
	if !given || json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	return "", badParameter("the %s is %s; send a string, as in %q:%q", name, kindOf(raw), name, example)
}

// kindOf says what a JSON value is that is neither a string nor null.
func kindOf(raw json.RawMessage) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	}
	return "a number"
}

func badMessage(err error) *web.Problem {
	detail := err.Error()
	if d, ok := errors.AsType[*bayeux.DecodeError](err); ok {
		detail = d.Detail + " (at byte " + strconv.Itoa(d.Offset) + ")"
	}
	return refusal(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_DATA_INVALID,
		`%s; send {"channel":"/a","data":…,"id":"…","idempotencyKey":"…"}, the last two if needed`, detail)
}

// AppendPublished appends the answer to a message that was published.
func AppendPublished(b []byte, id string, position uint64, duplicate bool) []byte {
	b = appendID(append(b, `{"type":"published"`...), id)
	b = strconv.AppendUint(append(b, `,"position":`...), position, 10)
	return append(strconv.AppendBool(append(b, `,"duplicate":`...), duplicate), '}')
}

// AppendRefused appends the answer to a message that was refused.
func AppendRefused(b []byte, id string, p *web.Problem) []byte {
	b = appendID(append(b, `{"type":"refused"`...), id)
	b = append(append(b, `,"reason":`...), quote(p.Reason)...)
	return append(append(append(b, `,"detail":`...), quote(p.Detail)...), '}')
}

func quote(text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		return []byte(`""`) // a string always has an encoding
	}
	return quoted
}

func appendID(b []byte, id string) []byte {
	if id == "" {
		return b
	}
	return append(append(b, `,"id":`...), quote(id)...)
}
