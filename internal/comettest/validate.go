package comettest

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/comet-push/comet/bayeux"
)

// Check compares what a client was told with what publishers published, and
// returns every breach of the promises for stock Bayeux clients:
//
//  1. Events of a channel come in order, each once. Only when a log was lost,
//     which a resync tells, may one come again whose publish was unclear: its
//     publisher tried again, or a broker did for it, and the key went with the
//     log.
//  2. What was published after a subscription was confirmed comes, or a resync
//     names the channel as it was subscribed to: not before the reply of the
//     last event before the gap, not after that of the first event behind it.
//  3. A new session begins anew with its confirmed subscription.
//
// It is called when everything has come to rest: all that was acknowledged has
// had the time to arrive.
func Check(c *Client, publishers ...*Publisher) error {
	var errs []error
	for _, p := range publishers {
		for _, pattern := range c.channels {
			if pattern == p.Channel || bayeux.Match(pattern, p.Channel) {
				errs = append(errs, check(c, p, pattern)...)
				break // one event comes once, however many patterns match
			}
		}
	}
	return errors.Join(errs...)
}

// reader follows one channel through a client's history.
type reader struct {
	history []Record
	pattern string
	live    bool // subscribed in the present session
	due     int  // the number that has to come next
	first   bool // nothing came yet: what began before the subscription may
	reply   int  // of the last event or subscription
}

func check(c *Client, p *Publisher, pattern string) (errs []error) {
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("client %s, %s: %w", c.Name, p.Channel, fmt.Errorf(format, args...)))
	}
	in := &reader{history: c.History(), pattern: pattern}
	for _, r := range in.history {
		switch {
		case r.Kind == Session:
			in.live = false
		case r.Kind == Subscribed && r.Channel == pattern:
			in.live, in.first, in.due, in.reply = true, true, p.since(r.At), r.Reply
		case r.Kind == Event && r.Channel == p.Channel:
			if in.repeats(r) && (p.Retried(r.N) || r.N == in.due-1) {
				continue
			}
			if err := in.event(r); err != nil {
				fail("at %s: %w", r.At.Format("15:04:05.000"), err)
			}
		}
	}
	if last := p.Acked(); in.live && in.due <= last && !in.resynced(math.MaxInt) {
		fail("%d to %d never came, and no resync", in.due, last)
	}
	return errs
}

func (in *reader) event(r Record) error {
	due, first := in.due, in.first
	if !in.live {
		return fmt.Errorf("%d came without a subscription", r.N)
	}
	if r.N < due && !first {
		return fmt.Errorf("%d came again or too late, %d was due", r.N, due)
	}
	announced := in.resynced(r.Reply)
	in.due, in.first, in.reply = r.N+1, false, r.Reply
	if r.N > due && !announced {
		return fmt.Errorf("%d came where %d was due, and no resync", r.N, due)
	}
	return nil
}

// repeats reports whether an event comes again, and a resync lies between it
// and the first one that came in its place.
func (in *reader) repeats(r Record) bool {
	if in.first || r.N >= in.due {
		return false
	}
	first := slices.IndexFunc(in.history, func(e Record) bool {
		return e.Kind == Event && e.Channel == r.Channel && e.N >= r.N
	})
	since := reader{history: in.history, pattern: in.pattern, reply: in.history[first].Reply}
	return since.resynced(r.Reply)
}

// resynced reports whether a gap between the last reply and a later one was
// announced.
func (in *reader) resynced(until int) bool {
	return slices.ContainsFunc(in.history, func(r Record) bool {
		return r.Kind == Resync && r.Channel == in.pattern && r.Reply >= in.reply && r.Reply <= until
	})
}
