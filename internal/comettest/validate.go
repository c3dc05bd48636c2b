package comettest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
)

// Check compares what a client was told with what publishers published, and
// returns every breach of the promises. For Bayeux clients these are:
//
//  1. Events of a channel come in order, each once. But what was not
//     acknowledged may come later than what was published after it. Only when a log was lost,
//     which a resync tells, may one come again whose publish was unclear: its
//     publisher tried again, or a broker did for it, and the key went with the
//     log. And if the client does not acknowledge, what came last before a connect
//     was cut may come again: the last answer, or the last three seconds of a socket.
//     What came within Profile.Repeats may come again, too.
//  2. What was published after a subscription was confirmed comes, or a resync
//     names the channel as it was subscribed to: not before the reply of the
//     last event before the gap, not after that of the first event behind it.
//     But to a socket events are pushed, and losses are not: they are told with
//     the next connect's answer, soon, or when it comes again after it was cut.
//  3. A new session begins anew with its confirmed subscription.
//
// For clients of plain channels:
//
//  4. Events of a channel come in the order of their positions, each once in a
//     connection, where the acknowledgment of its publish said it is. It may
//     come elsewhere, too, if its publisher tried again, or if a resync excuses
//     that: a broker tried again because the log was lost.
//  5. A connection goes on behind the cursor it asked with. Of what is behind
//     the first cursor all comes, but what a resync excuses: one that names the
//     channel or pattern, up to its cursor.
//  6. No cursor goes out before all in front of it did. With one literal
//     channel the position of each event is a cursor, too.
//
// It is called when everything has come to rest: all that was acknowledged has
// had the time to arrive, but to clients that left.
func Check(c *Client, publishers ...*Publisher) error {
	var errs []error
	for _, breach := range c.Of(Breach) {
		errs = append(errs, fmt.Errorf("client %s: %s", c.Name, breach.Detail))
	}
	for _, p := range publishers {
		for _, pattern := range slices.Concat(c.Channels, c.Enlisted) {
			if pattern != p.Channel && !bayeux.Match(pattern, p.Channel) {
				continue
			}
			if c.Transport.plain() {
				errs = append(errs, checkPlain(c, p)...)
			} else {
				errs = append(errs, check(c, p, pattern)...)
			}
			break // one event comes once, however many patterns match
		}
	}
	return errors.Join(errs...)
}

// left reports whether a client is not there any more.
func left(history []Record) bool {
	return len(history) > 0 && history[len(history)-1].Kind == Left
}

// reader follows one channel through a client's history.
type reader struct {
	publisher *Publisher
	unclear   map[int]bool // that came, and were not acknowledged
	history   []Record
	pattern   string
	pushed    bool // events do not come with the answers that tell of losses
	live      bool // subscribed in the present session
	due       int  // the number that has to come next
	first     bool // nothing came yet: what began before the subscription may
	reply     int  // of the last event or subscription
}

func check(c *Client, p *Publisher, pattern string) (errs []error) {
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("client %s, %s: %w", c.Name, p.Channel, fmt.Errorf(format, args...)))
	}
	in := &reader{publisher: p, unclear: map[int]bool{}, history: c.History(), pattern: pattern, pushed: c.Transport == WebSocket && !c.Ack}
	for i, r := range in.history {
		switch {
		case r.Kind == Session:
			in.live = false
		case r.Kind == Subscribed && r.Channel == pattern:
			in.live, in.first, in.due, in.reply = true, true, p.since(r.At), r.Reply
		case r.Kind == Event && r.Channel == p.Channel:
			if in.excused(i, c) {
				continue
			}
			if err := in.event(r); err != nil {
				fail("at %s: %w", r.At.Format("15:04:05.000"), err)
			}
		}
	}
	if lost := p.owed(in.due, math.MaxInt); in.live && len(lost) > 0 && !in.resynced(Record{Reply: math.MaxInt}) && !left(in.history) {
		fail("%d to %d never came, and no resync", lost[0], lost[len(lost)-1])
	}
	return errs
}

// excused reports whether an event may come again.
func (in *reader) excused(i int, c *Client) bool {
	r := in.history[i]
	return in.repeats(r) && (in.publisher.Retried(r.N) || in.begunAnew(r)) ||
		in.pushed && in.repeatsUnconfirmed(i) || !in.pushed && !c.Ack && in.repeatsCut(i) || in.repeatsWithin(i, c.Repeats)
}

func (in *reader) event(r Record) error {
	due, first := in.due, in.first
	if !in.live {
		return fmt.Errorf("%d came without a subscription", r.N)
	}
	if in.publisher.place(r.N) == 0 && !in.unclear[r.N] {
		in.unclear[r.N] = true
		if r.N < due {
			return nil
		}
	}
	if r.N < due && !first {
		return fmt.Errorf("%d came again or too late, %d was due", r.N, due)
	}
	announced := in.resynced(r)
	in.due, in.first, in.reply = r.N+1, false, r.Reply
	if lost := in.publisher.owed(due, r.N); len(lost) > 0 && !announced {
		return fmt.Errorf("%d came where %d was due, and no resync", r.N, lost[0])
	}
	return nil
}

// repeats reports whether an event comes again, and a resync lies between it
// and the first one that came in its place.
func (in *reader) repeats(r Record) bool {
	if in.first || r.N >= in.due {
		return false
	}
	since := reader{history: in.history, pattern: in.pattern, pushed: in.pushed, reply: in.history[in.firstAt(r)].Reply}
	return since.resynced(r)
}

// firstAt is where an event came first, or one behind it.
func (in *reader) firstAt(r Record) int {
	return slices.IndexFunc(in.history, func(e Record) bool {
		return e.Kind == Event && e.Channel == r.Channel && e.N >= r.N
	})
}

// begunAnew reports whether an event that comes again was acknowledged in a log
// that began after the event came first, if at all: it was under way when the
// log was lost, with its key, and sent again.
func (in *reader) begunAnew(r Record) bool {
	first := in.history[in.firstAt(r)]
	place := in.publisher.place(r.N)
	return place == 0 || place > shard.NextBase(0, first.At)
}

// repeatsCut reports whether an event comes again that was in the last answer
// with events, and a request was cut since.
func (in *reader) repeatsCut(i int) bool {
	again, last, cut := in.history[i], -1, false
	if in.first || again.N >= in.due {
		return false
	}
	for _, r := range slices.Backward(in.history[:i]) {
		switch {
		case r.Kind == Cut, r.Kind == Left:
			cut = true
		case r.Kind != Event || r.Reply == again.Reply:
		case last >= 0 && r.Reply != last:
			return false
		case r.Channel == again.Channel && r.N == again.N:
			return cut
		default:
			last = r.Reply
		}
	}
	return false
}

// unconfirmed is for how long at most it is not known of what was pushed whether it
// has arrived, while more is.
const unconfirmed = 3 * time.Second

// repeatsUnconfirmed reports whether an event comes again that came among the last
// ones before a socket was cut.
func (in *reader) repeatsUnconfirmed(i int) bool {
	again, last, cut := in.history[i], Record{}, false
	if in.first || again.N >= in.due {
		return false
	}
	for _, r := range slices.Backward(in.history[:i]) {
		switch {
		case r.Kind == Cut:
			cut, last = true, Record{}
		case !cut || r.Kind != Event:
		case r.Channel == again.Channel && r.N == again.N:
			return last.Kind == "" || last.At.Sub(r.At) <= unconfirmed
		case last.Kind == "":
			last = r
		}
	}
	return false
}

// repeatsWithin reports whether an event comes again that came a short time ago.
func (in *reader) repeatsWithin(i int, limit time.Duration) bool {
	again := in.history[i]
	if limit == 0 || in.first || again.N >= in.due {
		return false
	}
	for _, r := range slices.Backward(in.history[:i]) {
		if r.Kind == Event && r.Channel == again.Channel && r.N == again.N {
			return again.At.Sub(r.At) <= limit
		}
	}
	return false
}

// resynced reports whether a gap between the last reply and a record was
// announced.
func (in *reader) resynced(at Record) bool {
	const soon = time.Second
	for i, r := range in.history {
		inTime := r.Reply <= at.Reply || in.pushed && r.At.Before(at.At.Add(soon))
		switch r.Kind {
		case Resync:
			if r.Channel == in.pattern && r.Reply >= in.reply && inTime {
				return true
			}
		case Cut:
			if in.pushed && r.Reply >= at.Reply && inTime && in.told(in.history[i:]) {
				return true
			}
		}
	}
	return false
}

// told reports whether a loss is told of, or its session is over before it can be.
func (in *reader) told(history []Record) bool {
	return slices.ContainsFunc(history, func(r Record) bool {
		return r.Kind == Resync && r.Channel == in.pattern || r.Kind == Session
	})
}
