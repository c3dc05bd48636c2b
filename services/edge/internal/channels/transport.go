package channels

import (
	"mime"
	"net/http"
	"strings"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// Transport is how a reader is sent what it reads.
type Transport uint8

// The transports. The first, LongPoll and JSONP are answered once.
const (
	Poll Transport = iota
	LongPoll
	JSONP
	SSE
	Stream
	Multipart
	Frame
	WebSocket
)

// Once reports whether a reader gets one answer and not a stream.
func (t Transport) Once() bool { return t <= JSONP }

// String returns the name by which the transport is asked for.
func (t Transport) String() string { return transportNames()[t] }

func transportNames() []string {
	return []string{"poll", "long-poll", "jsonp", "sse", "stream", "multipart", "frame", "ws"}
}

// transportOf returns the transport that the parameter names, else an upgrade,
// else what is accepted.
func transportOf(q query, r *http.Request) (Transport, *web.Problem) {
	upgrade := isUpgrade(r)
	if q.has("transport") {
		for i, name := range transportNames() {
			if name != q.get("transport") {
				continue
			}
			t := Transport(i)
			if t == WebSocket && !upgrade {
				return t, refusal(http.StatusUpgradeRequired, channelv1.ErrorReason_ERROR_REASON_UPGRADE_REQUIRED,
					"transport=ws needs an upgrade to a WebSocket over HTTP/1.1; without one, use sse or long-poll")
			}
			return t, nil
		}
		return Poll, refusal(http.StatusNotAcceptable, channelv1.ErrorReason_ERROR_REASON_TRANSPORT_UNKNOWN,
			"there is no transport %s; choose one of %s", shorten(q.get("transport")), strings.Join(transportNames(), ", "))
	}
	if upgrade {
		return WebSocket, nil
	}
	return accepted(r.Header), nil
}

// Once reports whether a request surely gets one answer, for which nothing
// blocks: it publishes, or reads by a transport of that kind.
func Once(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost:
		return true
	case http.MethodGet:
		q, p := parseQuery(r)
		if p != nil {
			return false
		}
		t, p := transportOf(q, r)
		return p == nil && t.Once()
	}
	return false
}

// accepted returns the transport of the first media type in Accept that stands
// for one.
func accepted(h http.Header) Transport {
	for _, line := range h.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			media, params, err := mime.ParseMediaType(part)
			if err != nil || strings.Trim(params["q"], "0.") == "" && params["q"] != "" {
				continue
			}
			switch media {
			case "text/event-stream":
				return SSE
			case "application/x-ndjson":
				return Stream
			case "multipart/x-mixed-replace":
				return Multipart
			}
		}
	}
	return Poll
}
