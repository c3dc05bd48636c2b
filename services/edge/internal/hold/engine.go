package hold

import (
	"cmp"
	"time"
)

// Reason says why a connection was cut; it is a label of metrics.
type Reason string

// The reasons.
const (
	// Slow took or sent nothing for too long in the middle of something.
	Slow Reason = "slow"
	// Gone vanished while something was held for it.
	Gone Reason = "gone"
	// HeaderTimeout is a new connection that sent nothing.
	HeaderTimeout Reason = "header_timeout"
	// Idle is a connection without a request for long.
	Idle Reason = "idle"
	// Protocol is a breach of the WebSocket protocol.
	Protocol Reason = "protocol"
)

// Config configures an Engine. The zero value of a field is its default.
type Config struct {
	// WriteTimeout is how long a connection may take nothing of what waits for
	// it, or send nothing of a message it began; 10 s.
	WriteTimeout time.Duration
	// DrainWindow is the time over which a drain is spread; 2 s.
	DrainWindow time.Duration
	// HeaderTimeout is how long a new connection may be silent; 10 s.
	HeaderTimeout time.Duration
	// IdleTimeout is how long a connection may rest between requests; 2 min.
	IdleTimeout time.Duration
	// Cut counts the connections that were cut. It may be nil.
	Cut func(Reason)
	// Failed hears why connections can not be accepted for now, or not without
	// goroutines. It may be nil.
	Failed func(error)
}

func (c Config) withDefaults() Config {
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.DrainWindow = cmp.Or(c.DrainWindow, 2*time.Second)
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, 10*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 2*time.Minute)
	if c.Cut == nil {
		c.Cut = func(Reason) {}
	}
	if c.Failed == nil {
		c.Failed = func(error) {}
	}
	return c
}

func (c Config) waiting() Waiting {
	return Waiting{WriteTimeout: c.WriteTimeout, DrainWindow: c.DrainWindow, Cut: c.Cut}
}

// Counts is how many connections an engine has, by what they are doing. Those
// that are held by goroutines of their handlers are Serving.
type Counts struct {
	Idle, Serving, Exchanges, Streams, Sockets int
}
