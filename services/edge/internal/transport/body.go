package transport

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/web"
)

// messages reads and decodes the messages of a request.
func (h *Handler) messages(w http.ResponseWriter, r *http.Request) (messages []bayeux.Message, body []byte, p *web.Problem) {
	readable, p := checkContent(r.Header)
	if p != nil {
		return nil, nil, p
	}
	body, p = web.ReadBody(w, r, int64(h.limits.Bytes), h.readTimeout, channelv1.ErrorReason_ERROR_REASON_JSON_INVALID)
	if p != nil {
		return nil, nil, p
	}
	messages, err := bayeux.DecodePost(body, h.limits)
	switch {
	case err != nil && !readable:
		return nil, nil, unreadable("send a JSON array of Bayeux messages as application/json")
	case err != nil:
		return nil, nil, decodeProblem(err)
	case len(messages) == 0:
		return nil, nil, noMessage()
	}
	return messages, body, nil
}

func noMessage() *web.Problem { return invalid("the array holds no message") }

func decodeProblem(err error) *web.Problem {
	p := web.NewProblem(http.StatusBadRequest, channelv1.ErrorReason_ERROR_REASON_JSON_INVALID, err.Error())
	if d, ok := errors.AsType[*bayeux.DecodeError](err); ok {
		p.Reason, p.Detail = d.Reason, fmt.Sprintf("%s (at byte %d)", d.Detail, d.Offset)
		if d.Reason == bayeux.ReasonMessageTooLarge {
			p.Status = http.StatusRequestEntityTooLarge
			p.Title = http.StatusText(p.Status)
		}
	}
	return p
}

// checkContent refuses what can not be read whatever the bytes are. Other bodies
// are told apart by their first byte, since clients send JSON as text/plain to
// spare a preflight, and forms without saying so; readable is false if the type
// explains why the body then turns out to be neither.
func checkContent(header http.Header) (readable bool, p *web.Problem) {
	if e := header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return false, unreadable("bodies with a content encoding are not taken; send plain JSON")
	}
	text := header.Get("Content-Type")
	switch text {
	case "application/json", "application/json;charset=UTF-8", "application/json; charset=utf-8": // as clients send it
		return true, nil
	}
	media, params, err := mime.ParseMediaType(text)
	if err != nil {
		return text == "", nil
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8", "us-ascii":
	default:
		return false, unreadable("the charset is not UTF-8")
	}
	switch media {
	case "application/x-www-form-urlencoded", "text/plain", "application/json", "text/json":
		return true, nil
	}
	return strings.HasSuffix(media, "+json"), nil
}

func unreadable(detail string) *web.Problem {
	return web.NewProblem(http.StatusUnsupportedMediaType, channelv1.ErrorReason_ERROR_REASON_CONTENT_TYPE_UNSUPPORTED, detail)
}
