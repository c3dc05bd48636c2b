// Package webhook decides what a backend is told of events by HTTP, and when: it
// signs, makes requests of events, and knows how far the backend is. It is pure:
// time comes in, nothing waits, nothing is sent.
package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/comet-push/comet/internal/shard"
)

// The headers of a request.
const (
	// SignatureHeader proves who sent it.
	SignatureHeader = "Comet-Signature"
	// DeliveryHeader is the same whenever a request is repeated.
	DeliveryHeader = "Comet-Delivery"
)

// MaxEvents is how many events are in one request.
const MaxEvents = 100

const (
	leastSecret = 16
	mostSecrets = 4
)

// ParseSecrets reads a file of secrets, one in each line.
func ParseSecrets(text []byte) (secrets [][]byte, err error) {
	for line := range bytes.Lines(text) {
		secret := bytes.TrimSpace(line)
		switch {
		case len(secret) == 0:
			continue
		case len(secret) < leastSecret:
			return nil, fmt.Errorf("secret %d has %d bytes; at least %d are needed", len(secrets)+1, len(secret), leastSecret)
		case len(secrets) == mostSecrets:
			return nil, fmt.Errorf("more than %d secrets", mostSecrets)
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 {
		return nil, errors.New("no secret; write one into a line, at least 16 bytes")
	}
	return secrets, nil
}

// Sign returns the signature of a body that is sent at a time: t= and the Unix
// seconds and, for each secret, ,v1= and the HMAC-SHA256 of "t.body" in hex.
func Sign(secrets [][]byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	parts := []string{"t=" + t}
	for _, secret := range secrets {
		parts = append(parts, "v1="+hex.EncodeToString(sum(secret, t, body)))
	}
	return strings.Join(parts, ",")
}

func sum(secret []byte, t string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// ErrSignature says that a signature does not prove anything.
var ErrSignature = errors.New("the signature is not of this body, or not of this time")

// Verify checks a signature as backends do: one of its sums has to be of the
// body with the secret, and its time no farther from now than tolerance.
func Verify(secret []byte, signature string, body []byte, now time.Time, tolerance time.Duration) error {
	var t string
	proven := false
	for part := range strings.SplitSeq(signature, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "t":
			t = value
		case "v1":
			got, err := hex.DecodeString(value)
			proven = proven || err == nil && hmac.Equal(got, sum(secret, t, body))
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || !proven || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return ErrSignature
	}
	return nil
}

// Body returns the body of a request: events as they stand in their channel.
func Body(events [][]byte) []byte {
	b := append([]byte(`{"events":[`), bytes.Join(events, []byte(","))...)
	return append(b, "]}"...)
}

// cursor is how far the backend is, as it is kept in a channel.
type cursor struct {
	After uint64 `json:"after,string"`
}

// Cursor writes a position down.
func Cursor(after uint64) []byte { return []byte(`{"after":"` + strconv.FormatUint(after, 10) + `"}`) }

// ParseCursor reads what Cursor wrote.
func ParseCursor(text []byte) (uint64, error) {
	var c cursor
	if err := json.Unmarshal(text, &c); err != nil {
		return 0, fmt.Errorf("read a cursor: %w", err)
	}
	if c.After >= shard.MaxPosition {
		return 0, fmt.Errorf("read a cursor: %d is no position", c.After)
	}
	return c.After, nil
}
