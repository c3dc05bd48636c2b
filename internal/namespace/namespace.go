// Package namespace gives channels their options: an ordered list of patterns
// from the config, of which the first that matches a channel decides.
package namespace

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comet-push/comet/bayeux"
)

// Who says who may do something.
type Who string

// The callers, each including those before it.
const (
	Nobody   Who = "nobody"
	Backends Who = "backends"
	Sessions Who = "sessions"
	Anyone   Who = "anyone"
)

func levels() []Who { return []Who{Nobody, Backends, Sessions, Anyone} }

// Allows reports whether a permission covers a caller: Backends for the gRPC
// and REST doors, Sessions for browsers that said who they are, else Anyone.
func (w Who) Allows(caller Who) bool {
	granted, asked := w.level(), caller.level()
	return asked > 0 && asked <= granted
}

func (w Who) level() int {
	switch w {
	case Backends:
		return 1
	case Sessions:
		return 2
	case Anyone:
		return 3
	}
	return 0
}

// The defaults of a namespace.
const (
	DefaultMessages        = 100
	DefaultBytes           = 1 << 20
	DefaultAge             = 5 * time.Minute
	DefaultMaxMessageBytes = 512 << 10

	maxMessages = 1_000_000
	maxBytes    = 1 << 30
)

// What becomes of messages that wait for a slow client.
const (
	// Recover drops all that waits when it is too much, and tells the client
	// what to read again.
	Recover = "recover"
	// DropOldest drops the oldest ones to make room; the client is not told.
	DropOldest = "drop_oldest"
	// Conflate keeps only the newest one of each channel; the client is not
	// told.
	Conflate = "conflate"
)

// What is told of who is on a channel.
const (
	// Members are told, and who comes and goes.
	Members = "members"
	// Count is told: how many there are.
	Count = "count"
	// Off tells nothing.
	Off = "off"
)

// None is what Messages of a namespace without history is set to; Of then
// returns 0.
const None = -1

// Options are the options of the channels that match a pattern. In what NewSet
// takes, the zero value of a field stands for its default; in what Of returns,
// every field is set and zero means zero.
type Options struct {
	// Pattern is a channel pattern or literal channel.
	Pattern string
	// Subscribe and Publish say who may; default: nobody.
	Subscribe Who
	Publish   Who
	// Messages, Bytes and Age bound the history of each channel, whichever is
	// reached first; defaults 100, 1 MiB, 5 min.
	Messages int
	Bytes    int
	Age      time.Duration
	// MaxMessageBytes bounds data and ext of one message; default 512 KiB.
	MaxMessageBytes int
	// Presence says what is told of who is on a channel: Members (default), Count
	// or Off.
	Presence string
	// PresenceGrace is how long after its edge was lost a session leaves the rosters
	// of such channels; 0, the default, and what is longer than that: when it can
	// not be taken over any more.
	PresenceGrace time.Duration
	// Slow says what becomes of messages that wait for a slow client: Recover
	// (default), DropOldest or Conflate.
	Slow string
	// OnResync says how clients learn of lost history: event.
	OnResync string
}

// Open lets anyone do anything: the fallback of dev.
func Open() Options { return Options{Pattern: "/**", Subscribe: Anyone, Publish: Anyone} }

// Closed lets nobody do anything: the fallback of serve.
func Closed() Options { return Options{Pattern: "/**", Subscribe: Nobody, Publish: Nobody} }

// Set is an ordered list of namespaces. It is immutable.
type Set struct {
	list     []Options
	fallback Options
}

// NewSet checks the namespaces and fills in defaults. The fallback is for
// channels that no pattern matches; its own pattern does not matter.
func NewSet(list []Options, fallback Options) (*Set, error) {
	s := &Set{}
	var errs []error
	for i, o := range list {
		if err := checkPattern(o.Pattern); err != nil {
			errs = append(errs, fmt.Errorf("namespaces[%d].pattern: %w", i, err))
			continue
		}
		if err := o.complete(); err != nil {
			errs = append(errs, fmt.Errorf("namespaces[%d] (%s): %w", i, o.Pattern, err))
		}
		for j, earlier := range s.list {
			if covers(earlier.Pattern, o.Pattern) {
				errs = append(errs, fmt.Errorf(
					"namespaces[%d] (%s): never reached, since %s, namespaces[%d], matches the same channels first; put the narrower pattern first",
					i, o.Pattern, earlier.Pattern, j))
				break
			}
		}
		s.list = append(s.list, o)
	}
	if err := fallback.complete(); err != nil {
		errs = append(errs, fmt.Errorf("fallback namespace: %w", err))
	}
	s.fallback = fallback
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// List returns the namespaces in order.
func (s *Set) List() []Options { return slices.Clone(s.list) }

// Of returns the options of a literal channel. It allocates nothing. To rosters
// nobody publishes; of whom they may tell see MayWatch.
func (s *Set) Of(channel string) Options {
	if _, roster := bayeux.RosterOf(channel); roster {
		o := s.fallback
		o.Subscribe, o.Publish = Nobody, Nobody
		return o
	}
	if bayeux.IsPrivate(channel) {
		return private(channel)
	}
	for i := range s.list {
		if bayeux.Match(s.list[i].Pattern, channel) {
			return s.list[i]
		}
	}
	return s.fallback
}

// MayPublish reports whether a caller may publish to a literal channel.
func (s *Set) MayPublish(channel string, caller Who) bool {
	return s.Of(channel).Publish.Allows(caller)
}

// MaySubscribe reports whether a caller may subscribe to a literal channel, or
// to a pattern: then every namespace whose channels the pattern can match has
// to let it. Rosters are not subscribed to like other channels: see MayWatch.
func (s *Set) MaySubscribe(name string, caller Who) bool {
	if _, roster := bayeux.RosterOf(name); roster || bayeux.IsPrivate(name) {
		return false
	}
	for _, o := range s.list {
		if !overlap(o.Pattern, name) {
			continue
		}
		if !o.Subscribe.Allows(caller) {
			return false
		}
		if covers(o.Pattern, name) {
			return true
		}
	}
	return s.fallback.Subscribe.Allows(caller)
}

// Presence says what is told of who is on a channel. On a pattern it is the least
// that is told of any channel that this can match.
func (s *Set) Presence(name string) string {
	told := Members
	for _, o := range s.list {
		if !overlap(o.Pattern, name) {
			continue
		}
		told = lesser(told, o.Presence)
		if covers(o.Pattern, name) {
			return told
		}
	}
	return lesser(told, s.fallback.Presence)
}

func lesser(a, b string) string {
	switch {
	case a == Off || b == Off:
		return Off
	case a == Count || b == Count:
		return Count
	}
	return Members
}

// PresenceGrace is that of a literal channel; of a pattern it is 0.
func (s *Set) PresenceGrace(name string) time.Duration {
	if bayeux.IsPattern(name) {
		return 0
	}
	return s.Of(name).PresenceGrace
}

// MayWatch reports whether a caller may be told who is on a channel: if he may
// subscribe to it, and its presence is not off. There are no rosters of patterns,
// nor of rosters.
func (s *Set) MayWatch(channel string, caller Who) bool {
	return !bayeux.IsPattern(channel) && bayeux.IsBroadcast(channel) &&
		s.MaySubscribe(channel, caller) && s.Presence(channel) != Off
}

// complete fills in defaults and checks the rest.
func (o *Options) complete() error {
	return errors.Join(
		oneOf("subscribe", &o.Subscribe, levels()...),
		oneOf("publish", &o.Publish, levels()...),
		oneOf("presence", &o.Presence, Members, Count, Off),
		oneOf("slow", &o.Slow, Recover, DropOldest, Conflate),
		oneOf("on-resync", &o.OnResync, "event"),
		inRange("messages", &o.Messages, DefaultMessages, maxMessages),
		inRange("bytes", &o.Bytes, DefaultBytes, maxBytes),
		inRange("max-message-bytes", &o.MaxMessageBytes, DefaultMaxMessageBytes, DefaultBytes),
		inRange("presence-grace", &o.PresenceGrace, 0, time.Hour),
		inRange("age", &o.Age, DefaultAge, 30*24*time.Hour),
	)
}

// oneOf checks a word; nothing stands for the first.
func oneOf[T ~string](key string, v *T, allowed ...T) error {
	if *v == "" {
		*v = allowed[0]
	}
	if !slices.Contains(allowed, *v) {
		return fmt.Errorf("%s: %q is not one of %v", key, *v, allowed)
	}
	return nil
}

// inRange checks a number; zero stands for the default, None for zero.
func inRange[T int | time.Duration](key string, v *T, standard, highest T) error {
	switch {
	case *v == 0:
		*v = standard
	case *v == None:
		*v = 0
	case *v < 0 || *v > highest:
		return fmt.Errorf("%s: %v is not between 0 and %v", key, *v, highest)
	}
	return nil
}
