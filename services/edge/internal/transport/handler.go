// Package transport is the HTTP door of Bayeux sessions: it turns requests into
// messages, and answers into responses: as long-polling and callback-polling
// (JSONP). It opens WebSockets, and leaves what goes over them to the sessions.
//
//  1. Every request is answered: broken HTTP with a problem document (RFC 9457),
//     everything that is Bayeux with status 200 and messages.
//  2. /cometd and everything below it are one resource, never redirected; a
//     redirect would lose the body.
//  3. A request from a web page of an origin that is not allowed reaches no
//     session, be it a POST, a script's address or an upgrade.
//  4. No response may be cached or sniffed, and all of them, errors too, carry
//     CORS headers.
//  5. Time limits cover reading a body and writing an answer, never the wait
//     between them.
//  6. A script calls one function, whose name is checked, with JSON, and does
//     nothing else whatever the messages hold.
package transport

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/rs/cors"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// Base is the path of the door.
const Base = "/cometd"

// Cookie tells browsers apart; it is set at the handshake and never required.
const Cookie = "BAYEUX_BROWSER"

// Request is what sessions learn of an HTTP request.
type Request struct {
	// Messages are at least one.
	Messages []bayeux.Message
	// Body is the messages as they come with a POST: JSON or a form.
	Body []byte
	// Browser is the value of the browser's cookie, empty without one.
	Browser string
	// Multiplexed says that the browser does not count connections (HTTP/2).
	Multiplexed bool
	// ConnectionType is how the request came.
	ConnectionType string
	// Repeated says that it may have been taken before.
	Repeated bool
}

// Sessions take requests. Their methods must not block.
type Sessions interface {
	// Receive answers the exchange now or later, and owns it if it wants to
	// hear how it ended.
	Receive(e *hold.Exchange, r Request)
	// Open takes a WebSocket, whose upgrade may still fail: the stream then
	// ends. Or it says why there is no room for one.
	// browser is the value of the browser's cookie, or nothing.
	Open(number uint64, browser string) (*hold.Stream, hold.Receiver, *web.Problem)
}

// Config configures a Handler.
type Config struct {
	// Origins are the web pages that may use the door.
	Origins *web.Origins
	// Limits bound request bodies; zero fields stand for the defaults.
	Limits bayeux.Limits
	// ReadTimeout bounds the arrival of one body.
	ReadTimeout time.Duration
	// Holder keeps the requests that wait.
	Holder hold.Holder
	// Streamer keeps the WebSockets.
	Streamer hold.Streamer
	// Number returns the number of another exchange or stream, never one twice.
	Number func() uint64
	// JSONP lets scripts send messages.
	JSONP bool
	// Refused counts refusals by reason. It may be nil.
	Refused func(reason string)
	// Draining reports whether clients should find another server: their
	// connections are then closed behind the answers. It may be nil.
	Draining func() bool
}

// Handler serves Base and what is below it.
type Handler struct {
	origins     *web.Origins
	limits      bayeux.Limits
	readTimeout time.Duration
	holder      hold.Holder
	streamer    hold.Streamer
	number      func() uint64
	jsonp       bool
	refused     func(reason string)
	draining    func() bool
	sessions    Sessions
	cors        http.Handler
}

// New returns the handler of the door.
func New(cfg Config, sessions Sessions) *Handler {
	h := &Handler{
		origins:     cfg.Origins,
		limits:      cfg.Limits,
		readTimeout: cfg.ReadTimeout,
		holder:      cfg.Holder,
		streamer:    cfg.Streamer,
		number:      cfg.Number,
		jsonp:       cfg.JSONP,
		refused:     cfg.Refused,
		draining:    cfg.Draining,
		sessions:    sessions,
	}
	fallback := bayeux.DefaultLimits()
	if h.limits.Bytes <= 0 {
		h.limits.Bytes = fallback.Bytes
	}
	if h.limits.Messages <= 0 {
		h.limits.Messages = fallback.Messages
	}
	if h.refused == nil {
		h.refused = func(string) {}
	}
	if h.draining == nil {
		h.draining = func() bool { return false }
	}
	h.cors = cors.New(cors.Options{
		AllowOriginVaryRequestFunc: func(r *http.Request, _ string) (bool, []string) { return h.origins.Allow(r), nil },
		AllowedMethods:             []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions},
		// The last two are Faye's.
		AllowedHeaders:   []string{"Content-Type", "Accept", "Authorization", "X-Requested-With", "Pragma"},
		AllowCredentials: true,
		MaxAge:           int((10 * time.Minute).Seconds()),
	}).Handler(http.HandlerFunc(h.serve))
	return h
}

// Match reports whether a path belongs to the door.
func Match(path string) bool {
	return path == Base || strings.HasPrefix(path, Base+"/")
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if !h.origins.Allow(r) {
		header.Set("Vary", "Origin")
		h.refuse(w, originDenied())
		return
	}
	h.cors.ServeHTTP(w, r)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		messages, body, p := h.messages(w, r)
		if p != nil {
			h.refuse(w, p)
			return
		}
		h.receive(w, r, Request{Messages: messages, Body: body, ConnectionType: bayeux.LongPolling}, h)
	case http.MethodGet:
		if isUpgrade(r) {
			h.socket(w, r)
		} else {
			h.script(w, r)
		}
	case http.MethodHead:
		h.refuse(w, bringsNone())
	case http.MethodOptions:
		w.Header().Set("Allow", allow)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", allow)
		h.refuse(w, web.NewProblem(http.StatusMethodNotAllowed, channelv1.ErrorReason_ERROR_REASON_METHOD_NOT_ALLOWED,
			"Bayeux messages are sent by POST"))
	}
}

// receive hands messages to the sessions and holds the request until they have
// answered.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, request Request, replier hold.Replier) {
	request.Multiplexed = r.ProtoMajor >= 2
	if request.Browser = browserOf(r); request.Browser == "" && request.Messages[0].Channel == bayeux.Handshake {
		request.Browser = rand.Text()
		setCookie(w, r, request.Browser)
	}
	e := hold.New(h.number())
	h.sessions.Receive(e, request)
	h.holder.Hold(w, r, e, replier)
}

const allow = http.MethodGet + ", " + http.MethodPost + ", " + http.MethodOptions

// Reply implements [hold.Replier].
func (h *Handler) Reply(a hold.Answer) hold.Reply {
	reply := hold.Reply{Status: a.Status, Type: "application/json", Body: a.Body, Close: h.draining()}
	if a.Status != http.StatusOK {
		p := web.StatusProblem(a.Status)
		h.refused(p.Reason)
		reply.Header, reply.Body = p.Encode()
		reply.Type = web.ProblemType
	}
	return reply
}

func (h *Handler) refuse(w http.ResponseWriter, p *web.Problem) {
	h.refused(p.Reason)
	_ = p.Write(w) // nobody is left to tell
}

// NotFound answers requests for what the edge does not serve.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_ = web.NewProblem(http.StatusNotFound, channelv1.ErrorReason_ERROR_REASON_TRANSPORT_UNKNOWN,
		"nothing is served at this path; Bayeux clients connect to "+Base).Write(w)
}

// browserOf is the value of the browser's cookie, or nothing.
func browserOf(r *http.Request) string {
	if c, err := r.Cookie(Cookie); err == nil && validBrowser(c.Value) {
		return c.Value
	}
	return ""
}

// setCookie names the browser. On https the cookie is also sent along by pages
// of other sites, whose origins were checked.
func setCookie(w http.ResponseWriter, r *http.Request, browser string) {
	c := &http.Cookie{Name: Cookie, Value: browser, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		c.Secure, c.SameSite = true, http.SameSiteNoneMode
	}
	http.SetCookie(w, c)
}

// validBrowser bounds what clients make the server remember.
func validBrowser(s string) bool {
	const longest = 64
	return s != "" && len(s) <= longest && strings.Trim(s,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}
