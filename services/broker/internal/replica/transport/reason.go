package transport

import (
	"errors"
	"fmt"

	"github.com/comet-push/comet/internal/run"
)

// Reason says why a stream ended.
type Reason string

// The reasons.
const (
	// Stopped: this process stops, or has no use for the stream.
	Stopped Reason = "stopped"
	// Broken: the connection broke, or the other member ended the stream.
	Broken Reason = "broken"
	// Replaced: there is a newer stream of the two members.
	Replaced Reason = "replaced"
	// Silent: nothing but pings came for three heartbeats.
	Silent Reason = "silent"
	// Overflow: too much waited to be sent.
	Overflow Reason = "overflow"
	// Invalid: something came that is not as the protocol has it.
	Invalid Reason = "invalid"
	// Stranger: the other end is, or is looking for, another member.
	Stranger Reason = "stranger"
	// Version: the other member speaks no version of the protocol that is
	// spoken here.
	Version Reason = "version"
)

func reasons() []Reason {
	return []Reason{Stopped, Broken, Replaced, Silent, Overflow, Invalid, Stranger, Version}
}

// ending is the end of a stream.
type ending struct {
	why Reason
	err error // for people, or nil
}

func (e *ending) Error() string {
	if e.err == nil {
		return "replication stream ended: " + string(e.why)
	}
	return fmt.Sprintf("replication stream ended: %s: %v", e.why, e.err)
}

func (e *ending) Unwrap() error { return e.err }

// endingOf makes the cause of a stream's context into one; others than ending
// come from the context it is a child of.
func endingOf(cause error, otherwise Reason) *ending {
	var e *ending
	switch {
	case errors.As(cause, &e):
		return e
	case errors.Is(cause, run.ErrDraining):
		return &ending{Stopped, cause}
	}
	return &ending{otherwise, cause}
}
