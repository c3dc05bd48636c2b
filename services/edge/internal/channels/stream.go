package channels

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"time"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/frame"
	"github.com/comet-push/comet/services/edge/internal/plain"
	"github.com/comet-push/comet/services/edge/internal/web"
)

const jsonType = "application/json"

// head sets the headers of the response to a reader.
func (h *Handler) head(w http.ResponseWriter, req *Request) {
	header := w.Header()
	header.Set("Content-Type", contentType(req.Transport))
	switch req.Transport {
	case Poll:
		header.Set("Cache-Control", pollPolicy(req.Public))
		return
	case LongPoll:
		return
	case JSONP:
		maps.Copy(header, web.ScriptHeader())
		return
	case Frame:
		header.Set("Content-Security-Policy", h.ancestors)
		header.Set("Referrer-Policy", "no-referrer")
	}
	header.Set("X-Accel-Buffering", "no")
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

// Encoding returns the form in which messages of one channel go to a stream.
func (t Transport) Encoding() event.Encoding {
	switch t {
	case SSE:
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

// refuseReader answers a reader that is refused in the way that it can make
// sense of: the page of a frame sees no status, and an EventSource that sees one
// does not come back, which it is to do when this server only leaves, or lets it
// in later.
func (h *Handler) refuseReader(w http.ResponseWriter, req *Request, p *web.Problem) {
	reason := endReason(p)
	var body *frame.Frame
	switch {
	case req.Transport == Frame:
		body = plain.First(event.Script, req.Callback, "", plain.AppendEnd(nil, reason, "", retryOf(p), p.Detail))
	case req.Transport == SSE && (reason == plain.Draining || p.After > 0):
		body, _ = plain.Final(event.SSE, reason, "", retryOf(p))
	default:
		h.refuse(w, p)
		return
	}
	h.cfg.Refused(p.Reason)
	h.head(w, req)
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body.Payload()) //nolint:gosec // the callback is an identifier, and what is JSON is escaped
}

// endReason is why a stream that did not begin has ended.
func endReason(p *web.Problem) plain.Reason {
	switch p.Reason {
	case rpc.ReasonName(channelv1.ErrorReason_ERROR_REASON_DRAINING):
		return plain.Draining
	case rpc.ReasonName(channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED):
		return plain.Limit
	}
	if p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden {
		return plain.Denied
	}
	return plain.Failed
}

// retryOf is the pause asked of a reader that may come again, or 0.
func retryOf(p *web.Problem) time.Duration {
	const least, spread = time.Second, 4 * time.Second
	if p.After > 0 {
		return p.After
	}
	if p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable {
		return least + rand.N(spread)
	}
	return 0
}
