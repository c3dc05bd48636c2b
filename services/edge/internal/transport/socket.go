package transport

import (
	"net/http"
	"strings"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// isUpgrade reports whether a request asks for a WebSocket. Whether it asks
// rightly is for the streamer to see.
func isUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && hasToken(r.Header, "Connection", "upgrade") && hasToken(r.Header, "Upgrade", "websocket")
}

// socket serves the upgrade to a WebSocket. Its origin has been checked, which
// is all that keeps foreign pages off: browsers apply no CORS to upgrades.
func (h *Handler) socket(w http.ResponseWriter, r *http.Request) {
	stream, receiver, p := h.sessions.Open(h.number(), browserOf(r))
	if p != nil {
		h.refuse(w, p)
		return
	}
	h.streamer.Socket(w, r, stream, hold.SocketOptions{MaxMessage: h.limits.Bytes}, receiver)
}

// hasToken reports whether a header that is a list has an element.
func hasToken(header http.Header, name, token string) bool {
	for _, line := range header.Values(name) {
		for element := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(element), token) {
				return true
			}
		}
	}
	return false
}

func originDenied() *web.Problem {
	return web.NewProblem(http.StatusForbidden, channelv1.ErrorReason_ERROR_REASON_ORIGIN_DENIED,
		"pages of this origin may not use this server; add it to the allowed origins (--edge.allowed-origins)")
}
