package channels

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// firstRetry is how long an EventSource waits before it connects again, until
// an end says otherwise.
const firstRetry = 2 * time.Second

// head sets the headers of a response.
func (h *Handler) head(w http.ResponseWriter, req *Request) {
	header := w.Header()
	header.Set("Content-Type", contentType(req.Transport))
	switch req.Transport {
	case Poll:
		header.Set("Cache-Control", pollPolicy(req.Public))
	case LongPoll, WebSocket:
	case JSONP:
		for name, values := range web.ScriptHeader() {
			header[name] = values
		}
	case Frame:
		header.Set("Content-Security-Policy", h.ancestors)
		header.Set("Referrer-Policy", "no-referrer")
		fallthrough
	default:
		header.Set("X-Accel-Buffering", "no")
	}
}

func contentType(t Transport) string {
	switch t {
	case SSE:
		return "text/event-stream"
	case Stream:
		return "application/x-ndjson"
	case Multipart:
		return "multipart/x-mixed-replace; boundary=" + frame.Boundary
	case Frame:
		return "text/html; charset=utf-8"
	case JSONP:
		return web.ScriptType
	}
	return jsonType
}

func pollPolicy(public bool) string {
	if public {
		return "public, max-age=1"
	}
	return "private, no-cache"
}

// Encoding returns the form in which messages go to a reader.
func (t Transport) Encoding(several bool) event.Encoding {
	switch t {
	case SSE:
		if several {
			return event.SSEWithoutID
		}
		return event.SSE
	case Multipart:
		return event.Part
	case Frame:
		return event.Script
	case WebSocket:
		return event.Text
	}
	return event.Line
}

// Control returns a control object as a frame.
func (t Transport) Control(object []byte, cursor string) *frame.Frame {
	switch t {
	case SSE:
		return frame.SSE("comet", cursor, object)
	case Multipart:
		return frame.Part(object)
	case Frame:
		return frame.Script(object)
	case WebSocket:
		return frame.Text(object)
	}
	return frame.Line(object)
}

// Open returns the first frame of a stream.
func (r *Request) Open(object []byte, cursor string) *frame.Frame {
	switch r.Transport {
	case SSE:
		return frame.SSERetry(firstRetry, "comet", cursor, object)
	case Multipart:
		return behind([]byte("--"+frame.Boundary+"\r\n"), frame.Part(object))
	case Frame:
		return behind(frameHead(r.Callback, r.again), frame.Script(object))
	}
	return r.Transport.Control(object, cursor)
}

// End returns the last frame of a stream but, on a WebSocket, for the closing
// one.
func (t Transport) End(object []byte, cursor string, retry time.Duration) *frame.Frame {
	switch t {
	case SSE:
		return frame.SSERetry(retry, "comet", cursor, object)
	case Multipart:
		return frame.Chunk([]byte("Content-Type: application/json\r\n\r\n" + string(object) + "\r\n--" + frame.Boundary + "--\r\n"))
	}
	return t.Control(object, cursor)
}

// Reload returns a frame that lets a frame's page load it again, from the
// cursor.
func Reload(cursor string) *frame.Frame {
	return frame.Chunk([]byte(`<script>r("` + cursor + "\")</script>\n"))
}

// behind puts something in front of a frame.
func behind(head []byte, f *frame.Frame) *frame.Frame {
	return frame.Chunk(append(head, f.Payload()...))
}

// frameHead begins the document of a frame: it has c call the page, and r load
// the frame again.
func frameHead(callback, again string) []byte {
	address := frame.AppendScript(nil, quote(again))
	head := "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>comet</title><script>\n" +
		"function c(m){parent." + callback + "(m)}\n" +
		"function r(since){location.replace("
	return append(append([]byte(head), address...), "+encodeURIComponent(since))}\n</script></head><body>\n"...)
}

func quote(text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		return []byte(`""`) // a string always has an encoding
	}
	return quoted
}

// again is the address, but for a cursor at its end, at which a frame goes on.
func again(r *http.Request, q query) string {
	rest := url.Values{}
	for name, values := range q {
		if name != "since" {
			rest[name] = values
		}
	}
	return "?" + rest.Encode() + "&since="
}

// refusedFrame is the document of a frame that is refused: its page cannot see
// a status.
func refusedFrame(req *Request, p *web.Problem) []byte {
	object, err := json.Marshal(struct {
		Type    string       `json:"type"`
		Reason  string       `json:"reason"`
		Retry   int64        `json:"retry,omitempty"`
		Problem *web.Problem `json:"problem"`
	}{"end", endReason(p), retryOf(p).Milliseconds(), p})
	if err != nil {
		object = []byte(`{"type":"end","reason":"error"}`) // it always has an encoding
	}
	return append(frameHead(req.Callback, ""), frame.Script(object).Payload()...)
}

// endReason is why a stream that did not begin has ended.
func endReason(p *web.Problem) string {
	switch p.Reason {
	case rpc.ReasonName(channelv1.ErrorReason_ERROR_REASON_DRAINING):
		return "draining"
	case rpc.ReasonName(channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED):
		return "limit"
	}
	if p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden {
		return "denied"
	}
	return "error"
}

// retryOf is the pause asked of a frame that may come again, or 0.
func retryOf(p *web.Problem) time.Duration {
	const least, spread = time.Second, 4 * time.Second
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		return least + rand.N(spread)
	}
	return 0
}
