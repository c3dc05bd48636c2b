package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
)

// drainFactor is how many limits' worth of an oversized body are read and
// dropped, so that clients which only read after writing get the answer.
const drainFactor = 4

// ReadBody returns the body of a request: at most limit bytes, which have to
// arrive within a time. reason is why a body that was cut short is refused. The
// read deadline covers the body alone: one left behind would end the request
// that is held afterwards.
func ReadBody(
	w http.ResponseWriter, r *http.Request, limit int64, within time.Duration, reason channelv1.ErrorReason,
) ([]byte, *Problem) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	control := http.NewResponseController(w)
	// Not every connection has deadlines; on one without, the server's own hold.
	_ = control.SetReadDeadline(time.Now().Add(within))
	body, err := readAll(r, limit)
	if err == nil && int64(len(body)) <= limit {
		_ = control.SetReadDeadline(time.Time{})
		return body, nil
	}
	// Whatever else comes on this connection may be of the body.
	w.Header().Set("Connection", "close")
	switch {
	case err == nil:
		_, _ = io.CopyN(io.Discard, r.Body, (drainFactor-1)*limit) // whatever comes of it, the answer is the same
		return nil, TooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, NewProblem(http.StatusBadRequest, reason, "the body did not arrive in time")
	}
	return nil, NewProblem(http.StatusBadRequest, reason, "the body ended before its announced length")
}

// readAll reads a body, or a byte more of it than the limit.
func readAll(r *http.Request, limit int64) ([]byte, error) {
	if n := r.ContentLength; n > 0 && n <= limit {
		body := make([]byte, n)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	var body bytes.Buffer
	_, err := body.ReadFrom(io.LimitReader(r.Body, limit+1))
	return body.Bytes(), err
}
