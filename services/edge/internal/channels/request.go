package channels

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// Base is the path of the door.
const Base = "/channels"

const (
	maxChannels  = 64 // of one request
	maxLimit     = 1000
	defaultLimit = 100
	maxPadding   = 4096
	framePadding = 1024

	defaultFrameCallback = "comet"
)

// Request is what a reader asks for.
type Request struct {
	Transport Transport
	// Channels are literal channels and patterns, 1 to 64, each once.
	Channels []string
	// Since is where to start.
	Since shard.Since
	// Wait is how long a long-poll without news is held.
	Wait time.Duration
	// Limit is the most messages of a batch.
	Limit int
	// Padding is how many bytes of filler the first frame has.
	Padding int
	// Callback is the function that scripts of jsonp and frame call.
	Callback string
	// Public: anyone may read the channels, so that the reply of a poll may be
	// kept by caches.
	Public bool
}

// Match reports whether a path belongs to the door.
func Match(path string) bool {
	return path == Base || strings.HasPrefix(path, Base+"/")
}

// parseRead reads the request of a reader. The transport is valid even if
// there is a problem, unless the problem is the transport.
func (h *Handler) parseRead(r *http.Request) (Request, *web.Problem) {
	q, err := parseQuery(r)
	if err != nil {
		return Request{}, err
	}
	req := Request{}
	if req.Transport, err = transportOf(q, r); err != nil {
		return req, err
	}
	if req.Callback, err = q.callback(req.Transport); err != nil {
		return req, err
	}
	if p := q.check(readParameters()); p != nil {
		return req, p
	}
	if r.ContentLength != 0 {
		return req, badParameter("a request that reads has no body; publish by POST")
	}
	if err := authenticate(q, r); err != nil {
		return req, err
	}
	if req.Channels, err = channelsOf(r, q); err != nil {
		return req, err
	}
	if req.Since, err = q.since(&req, r); err != nil {
		return req, err
	}
	longest := int(h.cfg.PollTimeout / time.Second)
	wait, err := q.number("wait", 0, longest, longest)
	if err != nil {
		return req, err
	}
	if req.Wait = time.Duration(wait) * time.Second; !q.has("wait") {
		req.Wait = h.cfg.PollTimeout
	}
	if req.Limit, err = q.number("limit", 1, maxLimit, defaultLimit); err != nil {
		return req, err
	}
	padding := 0
	if req.Transport == Frame {
		padding = framePadding
	}
	req.Padding, err = q.number("padding", 0, maxPadding, padding)
	return req, err
}

// readParameters are the parameters of a reader.
func readParameters() []string {
	return []string{"channel", "transport", "since", "wait", "limit", "padding", "jsonp", "callback", "token"}
}

// channelsOf returns the channels of a reader, from its path or from its
// parameters.
func channelsOf(r *http.Request, q query) ([]string, *web.Problem) {
	inPath, p := pathChannel(r)
	switch names := q["channel"]; {
	case p != nil:
		return nil, p
	case inPath != "" && len(names) > 0:
		return nil, badChannel("name the channels in the path or as parameters %s?channel=…, not both", Base)
	case inPath != "":
		return []string{inPath}, checkReadable(inPath)
	case len(names) == 0:
		return nil, badChannel("name a channel: %s/<segments>, or %s?channel=/…", Base, Base)
	default:
		return distinct(names)
	}
}

// distinct returns channels without repetition.
func distinct(names []string) ([]string, *web.Problem) {
	var channels []string
	for _, name := range names {
		if slices.Contains(channels, name) {
			continue
		}
		if len(channels) == maxChannels {
			return nil, refusal(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_TOO_MANY_CHANNELS,
				"one request reads at most %d channels; read fewer, or a pattern", maxChannels)
		}
		if p := checkReadable(name); p != nil {
			return nil, p
		}
		channels = append(channels, name)
	}
	return channels, nil
}

// pathChannel returns the channel in the path; empty if there is none.
func pathChannel(r *http.Request) (string, *web.Problem) {
	rest, below := strings.CutPrefix(r.URL.EscapedPath(), Base+"/")
	if !below {
		if r.URL.EscapedPath() == Base {
			return "", nil
		}
		return "", badChannel("write the path as %s/<segments>, only the segments percent-encoded", Base)
	}
	var channel strings.Builder
	for segment := range strings.SplitSeq(rest, "/") {
		text, err := url.PathUnescape(segment)
		switch {
		case err != nil:
			return "", badChannel("the path is not well percent-encoded")
		case text == "":
			return "", badChannel("the path has an empty segment, or a / at its end; leave it out")
		case text == "." || text == "..":
			return "", badChannel("a segment of the path cannot be %s; name such a channel as %s?channel=…", text, Base)
		case strings.Contains(text, "/"):
			return "", badChannel("a segment cannot hold a /; write %%2F as /")
		}
		channel.WriteByte('/')
		channel.WriteString(text)
	}
	return channel.String(), checkChannel(channel.String())
}

func checkChannel(name string) *web.Problem {
	if err := bayeux.ParseChannel(name); err != nil {
		return badChannel("%v", err)
	}
	if name == "/meta" || bayeux.IsMeta(name) {
		return badChannel("%s is reserved for the protocol; choose another name", name)
	}
	if bayeux.IsPrivate(name) {
		return badChannel("%s is reserved: names that begin with /@ are Comet's own; choose another", name)
	}
	return nil
}

// checkReadable refuses what no browser reads.
func checkReadable(name string) *web.Problem {
	if p := checkChannel(name); p != nil {
		return p
	}
	if bayeux.IsService(name) {
		return Denied(channelv1.ErrorReason_ERROR_REASON_SUBSCRIBE_DENIED, name,
			"channels below /service go from browsers to backends only; read another channel")
	}
	return nil
}

// authenticate refuses credentials: there is nothing yet to check them with.
func authenticate(q query, r *http.Request) *web.Problem {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !q.has("token") && !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	return refusal(http.StatusUnauthorized, channelv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED,
		"this server has nothing to check tokens with; send the request without one")
}

// query is the parameters of a request.
type query url.Values

func parseQuery(r *http.Request) (query, *web.Problem) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badParameter("the parameters are not well encoded: %v", err)
	}
	return query(values), nil
}

func (q query) has(name string) bool { return len(q[name]) > 0 }

func (q query) get(name string) string { return url.Values(q).Get(name) }

// check refuses parameters that are unknown or repeated.
func (q query) check(known []string) *web.Problem {
	names := make([]string, 0, len(q))
	for name := range q {
		names = append(names, name)
	}
	slices.Sort(names) // the same request, the same answer
	for _, name := range names {
		switch {
		case !slices.Contains(known, name):
			return badParameter("unknown parameter %s; %s", shorten(name), suggestion(name, known))
		case name != "channel" && len(q[name]) > 1:
			return badParameter("the parameter %s is given %d times; give it once", name, len(q[name]))
		}
	}
	return nil
}

// number returns a parameter that is a whole number in a range.
func (q query) number(name string, least, most, fallback int) (int, *web.Problem) {
	if !q.has(name) {
		return fallback, nil
	}
	n, err := strconv.ParseUint(q.get(name), 10, 31)
	if err != nil || int(n) < least || int(n) > most {
		return 0, badParameter("%s is %s; a whole number from %d to %d is needed", name, shorten(q.get(name)), least, most)
	}
	return int(n), nil
}

// since returns where a reader starts.
func (q query) since(req *Request, r *http.Request) (shard.Since, *web.Problem) {
	text, given := q.get("since"), q.has("since")
	if last := r.Header.Get("Last-Event-ID"); req.Transport == SSE && last != "" {
		text, given = last, true
	}
	switch {
	case !given && req.Transport == Poll:
		return shard.Since{Earliest: true}, nil
	case !given:
		return shard.Since{}, nil
	}
	return parseSince(req.Channels, text)
}

func parseSince(channels []string, text string) (shard.Since, *web.Problem) {
	if text == "" {
		return shard.Since{}, refusal(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_CURSOR_INVALID,
			"since is empty; give a cursor, %s or %s, or leave it out", shard.Earliest, shard.Latest)
	}
	since, err := shard.ParseSince(channels, text)
	if err != nil {
		return since, refusal(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_CURSOR_INVALID,
			"%v; use one that these channels gave, %s or %s", err, shard.Earliest, shard.Latest)
	}
	return since, nil
}

// callback returns the function to call: only the transport's own is looked at.
func (q query) callback(t Transport) (string, *web.Problem) {
	for _, name := range []string{"jsonp", "callback"} {
		if q.has(name) && !web.ValidCallback(q.get(name)) {
			return defaultFrameCallback, badParameter("%s is no dotted JavaScript identifier of at most 64 characters", name)
		}
	}
	switch {
	case t == JSONP && q.has("jsonp"):
		return q.get("jsonp"), nil
	case t == JSONP:
		return web.DefaultCallback, nil
	case t == Frame && q.has("callback"):
		return q.get("callback"), nil
	case t == Frame:
		return defaultFrameCallback, nil
	}
	return "", nil
}
