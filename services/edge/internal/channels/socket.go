package channels

import (
	"encoding/json"
	"errors"
	"net/http"
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
	var fields struct {
		Channel string          `json:"channel"`
		Data    json.RawMessage `json:"data"`
		ID      string          `json:"id"`
		Key     string          `json:"idempotencyKey"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&fields); err != nil {
		return Message{}, badMessage(err)
	}
	m := Message{Publication{Channel: fields.Channel, Data: fields.Data, Key: fields.Key}, fields.ID}
	if len(m.ID) > maxID {
		return Message{}, badParameter("the id has %d bytes; at most %d are allowed", len(m.ID), maxID)
	}
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
