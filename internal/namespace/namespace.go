// Package namespace gives channels their options: an ordered list of patterns
// from the config, of which the first that matches a channel decides.
package namespace

import "time"

// Who says who may do something.
type Who string

// The callers, each including those before it.
const (
	Nobody   Who = "nobody"
	Backends Who = "backends"
	Sessions Who = "sessions"
	Anyone   Who = "anyone"
)

// Options are the options of the channels that match a pattern. The zero value
// of a field stands for its default, except where Load says otherwise.
type Options struct {
	Pattern         string
	Subscribe       Who
	Publish         Who
	Messages        int
	Bytes           int
	Age             time.Duration
	MaxMessageBytes int
	Presence        string // off, count, members
	Slow            string // recover, drop_oldest, conflate
	OnResync        string // event, rehandshake
}
