package httpd

import (
	"net/http"

	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
)

// notForPages refuses what the script of a web page sends. A page can make its
// own host name resolve to this machine, so that it counts as same-origin;
// what it cannot do is leave out the headers in which its browser says so. An
// address typed into a browser still works.
func notForPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mode := r.Header.Get("Sec-Fetch-Mode")
		if r.Header.Get("Origin") == "" && (mode == "" || mode == "navigate") {
			next.ServeHTTP(w, r)
			return
		}
		writeError(r.Context(), nil, marshaler{}, w, r, rpc.Error(codes.PermissionDenied,
			channelv1.ErrorReason_ERROR_REASON_ORIGIN_DENIED,
			"this door is for backends, not for web pages; pages publish and subscribe through the edge"))
	})
}
