package channels

import (
	"bytes"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/web"
)

const maxKey = 128 // bytes of an idempotency key

// Publication is a message to be published.
type Publication struct {
	// Channel is literal, Data one JSON value.
	Channel string
	Data    []byte
	// Key is the idempotency key, or empty.
	Key string
	// Read is a poll that is to be answered along with it, or nil.
	Read *Request
}

func (h *Handler) publish(w http.ResponseWriter, r *http.Request) {
	pub, p := h.parsePublish(w, r)
	if p != nil {
		h.refuse(w, p)
		return
	}
	x := h.exchange(&Request{Transport: LongPoll}, r) // whose answers are never kept
	h.edge.Publish(x, pub)
	h.cfg.Holder.Hold(w, r, x.Exchange, x)
}

// parsePublish reads what is to be published. Everything else is checked before
// the body is read.
func (h *Handler) parsePublish(w http.ResponseWriter, r *http.Request) (pub Publication, p *web.Problem) {
	if pub.Channel, p = pathChannel(r); p != nil {
		return pub, p
	}
	if p = checkLiteral(pub.Channel); p != nil {
		return pub, p
	}
	q, p := parseQuery(r)
	if p != nil {
		return pub, p
	}
	if p = q.check([]string{"channel", "since", "limit", "token"}); p != nil {
		return pub, p
	}
	if p = authenticate(q, r); p != nil {
		return pub, p
	}
	most, p := h.edge.MayPublish(pub.Channel)
	if p != nil {
		return pub, p
	}
	if p = checkContent(r.Header); p != nil {
		return pub, p
	}
	if pub.Key, p = keyOf(r.Header); p != nil {
		return pub, p
	}
	if pub.Read, p = h.parsePiggyback(pub.Channel, q); p != nil {
		return pub, p
	}
	body, p := web.ReadBody(w, r, int64(most), h.cfg.ReadTimeout, channelv1.ErrorReason_ERROR_REASON_DATA_INVALID)
	if p != nil {
		return pub, p
	}
	pub.Data, p = checkData(body)
	return pub, p
}

// checkLiteral refuses what cannot be published to.
func checkLiteral(channel string) *web.Problem {
	if channel == "" {
		return badChannel("name the channel to publish to in the path: POST %s/<segments>", Base)
	}
	if bayeux.IsPattern(channel) {
		return badChannel("%s is a pattern; publish to a literal channel", channel)
	}
	return nil
}

// checkData returns data without the white space around it.
func checkData(data []byte) ([]byte, *web.Problem) {
	data = bytes.Trim(data, " \t\r\n")
	if err := bayeux.CheckValue(data, bayeux.DefaultLimits().Depth); err != nil {
		return nil, refusal(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_DATA_INVALID,
			"the data is not one JSON value: %v", err)
	}
	return data, nil
}

func checkKey(key string) *web.Problem {
	if len(key) > maxKey || !utf8.ValidString(key) {
		return badParameter("the idempotency key has %d bytes; at most %d of UTF-8 are allowed", len(key), maxKey)
	}
	return nil
}

func keyOf(header http.Header) (string, *web.Problem) {
	keys := header.Values("Idempotency-Key")
	switch len(keys) {
	case 0:
		return "", nil
	case 1:
		return keys[0], checkKey(keys[0])
	}
	return "", badParameter("the header Idempotency-Key is given %d times; give it once", len(keys))
}

func checkContent(header http.Header) *web.Problem {
	media, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	charset := params["charset"]
	encoding := header.Get("Content-Encoding")
	if err == nil && media == jsonType && (charset == "" || strings.EqualFold(charset, "utf-8")) &&
		(encoding == "" || strings.EqualFold(encoding, "identity")) {
		return nil
	}
	return refusal(http.StatusUnsupportedMediaType, channelv1.ErrorReason_ERROR_REASON_CONTENT_TYPE_UNSUPPORTED,
		"send the data as JSON in UTF-8: Content-Type: %s, without a Content-Encoding", jsonType)
}

// parsePiggyback returns the poll that is to be answered along with a publish,
// or nil.
func (h *Handler) parsePiggyback(channel string, q query) (req *Request, p *web.Problem) {
	if !q.has("since") {
		for _, name := range []string{"channel", "limit"} {
			if q.has(name) {
				return nil, badParameter("%s says what is read along with a publish, which takes since, too", name)
			}
		}
		return nil, nil
	}
	req = &Request{Transport: Poll}
	names := q["channel"]
	if len(names) == 0 {
		names = []string{channel}
	}
	if req.Channels, p = distinct(names); p != nil {
		return nil, p
	}
	if req.Since, p = parseSince(req.Channels, q.get("since")); p != nil {
		return nil, p
	}
	if req.Limit, p = q.number("limit", 1, maxLimit, defaultLimit); p != nil {
		return nil, p
	}
	req.Public, p = h.edge.MaySubscribe(req.Channels)
	return req, p
}
