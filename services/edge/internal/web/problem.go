package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
)

// Problem is why a request was refused: an RFC 9457 document. Its reasons are the catalogue of comet.channel.v1.
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
	// Channel is the channel it is about, or empty.
	Channel string `json:"channel,omitempty"`
}

// NewProblem returns a problem; detail says what to do.
func NewProblem(status int, reason channelv1.ErrorReason, detail string) *Problem {
	return &Problem{
		Status: status,
		Title:  http.StatusText(status),
		Reason: strings.TrimPrefix(reason.String(), "ERROR_REASON_"),
		Detail: detail,
	}
}

// TooLarge is the problem of a body above a limit in bytes.
func TooLarge(limit int64) *Problem {
	return NewProblem(http.StatusRequestEntityTooLarge, channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE,
		"the body is larger than "+strconv.FormatInt(limit, 10)+" bytes; send fewer or smaller messages")
}

// StatusProblem is what an answer without a body says.
func StatusProblem(status int) *Problem {
	switch status {
	case http.StatusServiceUnavailable:
		return NewProblem(status, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"this request was replaced by a newer one, or can not be answered any more; poll again")
	case http.StatusTooManyRequests:
		return NewProblem(status, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"the session has too many requests under way; wait for their answers")
	}
	return NewProblem(status, channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED, http.StatusText(status))
}

// Write puts the problem on the wire.
func (p *Problem) Write(w http.ResponseWriter) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	return WriteBody(w, p.Status, "application/problem+json", body)
}

// WriteBody writes a whole response and flushes it, so that an error tells
// whether the connection took it.
func WriteBody(w http.ResponseWriter, status int, contentType string, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
