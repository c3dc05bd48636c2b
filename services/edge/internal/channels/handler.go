package channels

import (
	"context"
	"net/http"
	"time"

	"github.com/rs/cors"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// Edge is what the door leads to. Only Stream and Socket may block: until the
// first frame of the reader is on the stream, or it is known that there will be
// none.
type Edge interface {
	// MaySubscribe says why channels may not be read, and whether anyone may
	// read them.
	MaySubscribe(channels []string) (public bool, p *web.Problem)
	// MayPublish says why a channel may not be published to, and how many bytes
	// a message may have.
	MayPublish(channel string) (most int, p *web.Problem)
	// Poll answers a reader that wants one answer, now or later.
	Poll(x *Exchange, r *Request)
	// Stream returns the stream of a reader, or says why it is refused.
	Stream(ctx context.Context, number uint64, r *Request) (*hold.Stream, *web.Problem)
	// Socket is Stream for a WebSocket, whose upgrade may still fail: the stream
	// then ends.
	Socket(ctx context.Context, number uint64, r *Request) (*hold.Stream, hold.Receiver, *web.Problem)
	// Publish commits a message, and answers when that is done.
	Publish(x *Exchange, p Publication)
}

// Config configures a Handler.
type Config struct {
	// Origins are the web pages that may use the door.
	Origins *web.Origins
	// PollTimeout is the longest that a long-poll may be held.
	PollTimeout time.Duration
	// ReadTimeout bounds the arrival of one body.
	ReadTimeout time.Duration
	// JSONP allows the transport of that name.
	JSONP bool
	// Holder and Streamer keep the requests that wait.
	Holder   hold.Holder
	Streamer hold.Streamer
	// Number returns the number of another exchange or stream, never one twice.
	Number func() uint64
	// Refused counts refusals by reason. It may be nil.
	Refused func(reason string)
	// Draining reports whether clients should find another server: their
	// connections are then closed behind the answers. It may be nil.
	Draining func() bool
}

// Handler serves Base and what is below it.
type Handler struct {
	cfg       Config
	edge      Edge
	cors      http.Handler
	ancestors string // of frames, for their policy
}

// New returns the handler of the door.
func New(cfg Config, edge Edge) *Handler {
	h := &Handler{cfg: cfg, edge: edge, ancestors: "frame-ancestors " + cfg.Origins.Ancestors()}
	if h.cfg.Refused == nil {
		h.cfg.Refused = func(string) {}
	}
	if h.cfg.Draining == nil {
		h.cfg.Draining = func() bool { return false }
	}
	h.cors = cors.New(cors.Options{
		AllowOriginVaryRequestFunc: func(r *http.Request, _ string) (bool, []string) { return cfg.Origins.Allow(r), nil },
		AllowedMethods:             []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions},
		AllowedHeaders: []string{
			"Content-Type", "Accept", "Authorization", "Last-Event-ID", "Idempotency-Key", "If-None-Match", "Cache-Control",
		},
		ExposedHeaders:   []string{"ETag", "Retry-After"},
		AllowCredentials: true,
		MaxAge:           int((10 * time.Minute).Seconds()),
	}).Handler(http.HandlerFunc(h.serve))
	return h
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Content-Type-Options", "nosniff")
	if h.cfg.Draining() {
		header.Set("Connection", "close")
	}
	if !h.cfg.Origins.Allow(r) {
		header.Set("Vary", "Origin")
		h.refuse(w, web.NewProblem(http.StatusForbidden, channelv1.ErrorReason_ERROR_REASON_ORIGIN_DENIED,
			"pages of this origin may not use this server; add it to the allowed origins (--edge.allowed-origins)"))
		return
	}
	h.cors.ServeHTTP(w, r)
}

const allow = "GET, HEAD, POST, OPTIONS"

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.read(w, r)
	case http.MethodPost:
		h.publish(w, r)
	case http.MethodOptions:
		w.Header().Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", allow)
		h.refuse(w, web.NewProblem(http.StatusMethodNotAllowed, channelv1.ErrorReason_ERROR_REASON_METHOD_NOT_ALLOWED,
			"channels are read by GET and published to by POST"))
	}
}

func (h *Handler) read(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Accept")
	req, p := h.parseRead(r)
	if p == nil {
		p = h.permit(&req, r)
	}
	if p != nil {
		h.refuseReader(w, &req, p)
		return
	}
	if r.Method == http.MethodHead {
		h.head(w, &req)
		w.WriteHeader(http.StatusOK)
		return
	}
	switch {
	case req.Transport.Once():
		x := h.exchange(&req, r)
		h.edge.Poll(x, &req)
		h.cfg.Holder.Hold(w, r, x.Exchange, x)
	case req.Transport == WebSocket:
		h.socket(w, r, &req)
	default:
		h.stream(w, r, &req)
	}
}

// permit checks who asks for what.
func (h *Handler) permit(req *Request, r *http.Request) (p *web.Problem) {
	if req.Transport == JSONP && !h.cfg.JSONP {
		return web.NewProblem(http.StatusForbidden, channelv1.ErrorReason_ERROR_REASON_TRANSPORT_DISABLED,
			"jsonp is switched off here; use another transport, or switch it on (--edge.jsonp)")
	}
	if (req.Transport == JSONP || req.Transport == Frame) && !h.cfg.Origins.AllowScript(r) {
		return web.NewProblem(http.StatusForbidden, channelv1.ErrorReason_ERROR_REASON_ORIGIN_DENIED,
			"the page that asks for this script or frame may not use this server; add its origin to the allowed origins (--edge.allowed-origins)")
	}
	req.Public, p = h.edge.MaySubscribe(req.Channels)
	return p
}

func (h *Handler) stream(w http.ResponseWriter, r *http.Request, req *Request) {
	s, p := h.edge.Stream(r.Context(), h.cfg.Number(), req)
	if p != nil {
		h.refuseReader(w, req, p)
		return
	}
	h.head(w, req)
	h.cfg.Streamer.Stream(w, r, s)
}

func (h *Handler) socket(w http.ResponseWriter, r *http.Request, req *Request) {
	s, receiver, p := h.edge.Socket(r.Context(), h.cfg.Number(), req)
	if p != nil {
		h.refuse(w, p)
		return
	}
	h.cfg.Streamer.Socket(w, r, s, hold.SocketOptions{MaxMessage: bayeux.DefaultLimits().Bytes}, receiver)
}

func (h *Handler) refuse(w http.ResponseWriter, p *web.Problem) {
	h.cfg.Refused(p.Reason)
	header := w.Header()
	switch p.Status {
	case http.StatusUnauthorized:
		header.Set("WWW-Authenticate", "Bearer")
	case http.StatusUpgradeRequired:
		header.Set("Upgrade", "websocket")
		header.Set("Connection", "Upgrade")
	}
	_ = p.Write(w) // nobody is left to tell
}
