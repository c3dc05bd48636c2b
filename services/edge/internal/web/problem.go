package web

import (
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

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
	// After is when to come again, if that is known.
	After time.Duration `json:"-"`
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

// ProblemType is the Content-Type of problems.
const ProblemType = "application/problem+json"

// Encode returns the body of the response and headers it needs, or nil.
func (p *Problem) Encode() (http.Header, []byte) {
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte("{}") // strings and numbers always have an encoding
	}
	if p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests {
		seconds := (max(p.After, time.Second) + time.Second - 1) / time.Second
		return http.Header{"Retry-After": {strconv.Itoa(int(seconds))}}, body
	}
	return nil, body
}

// Write answers a request with the problem.
func (p *Problem) Write(w http.ResponseWriter) error {
	header, body := p.Encode()
	h := w.Header()
	maps.Copy(h, header)
	h.Set("Content-Type", ProblemType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, err := w.Write(body)
	return err
}
