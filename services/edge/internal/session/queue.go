package session

import (
	"slices"
	"time"

	"github.com/comet-push/comet/services/edge/internal/event"
)

// item is an event or notice on its way to the client.
type item struct {
	event *event.Event
	batch uint32 // 0: fresh, else the answer it was first sent with
	slow  asked

	pushed bool // over the socket; batch is the ping behind it
}

// asked is what Config.Slow said, plus 1; 0: it was not asked.
type asked uint8

// tally sums up items.
type tally struct{ events, notices, bytes int32 }

func (t *tally) add(e *event.Event) { t.count(e, 1) }

func (t *tally) remove(e *event.Event) { t.count(e, -1) }

func (t *tally) count(e *event.Event, n int32) {
	if e.Notice() {
		t.notices += n
		return
	}
	t.events += n
	t.bytes += n * int32(e.Size())
}

// keep is how many items' room an empty log keeps for the next ones.
const keep = 4

// enqueue appends an event to the log if there is room or can be made.
func (s *Session) enqueue(i item, out *Effects) {
	if s.full(i.event) && !s.makeRoom(&i, out) {
		return
	}
	s.log = append(s.log, i)
	s.fresh.add(i.event)
}

// full reports whether an event does not fit.
func (s *Session) full(e *event.Event) bool {
	messages, bytes, size := s.cfg.QueueMessages, s.cfg.QueueBytes, e.Size()
	fresh, kept := int(s.fresh.events), int(s.fresh.events+s.sent.events)
	freshBytes, keptBytes := int(s.fresh.bytes)+size, int(s.fresh.bytes)+int(s.sent.bytes)+size
	return fresh >= messages || freshBytes > bytes || kept >= 2*messages || keptBytes > 2*bytes
}

// notice makes the next connect's answer say that events of a subscription
// were lost. It is an item, so it is kept and sent again like an event; an
// older one for the same subscription is replaced.
func (s *Session) notice(channel string) {
	s.discard(func(i item) bool { return i.event.Notice() && i.event.Channel == channel })
	if sub := s.find(channel); sub != nil {
		sub.gap = true
	}
	e := event.NewNotice(channel)
	s.log = append(s.log, item{event: e})
	s.fresh.add(e)
}

// discard removes items and counts what is left.
func (s *Session) discard(drop func(item) bool) {
	s.log = slices.DeleteFunc(s.log, drop)
	s.fresh, s.sent = tally{}, tally{}
	for _, i := range s.log {
		if i.batch == 0 {
			s.fresh.add(i.event)
		} else {
			s.sent.add(i.event)
		}
	}
	if s.fresh.events == 0 {
		s.stale = 0
	}
	if len(s.log) == 0 && cap(s.log) > keep {
		s.log = nil
	}
}

// acknowledge forgets the batches up to the given one.
func (s *Session) acknowledge(batch uint64) {
	if batch <= uint64(s.batch) && len(s.log) > 0 {
		s.discard(func(i item) bool { return i.batch != 0 && uint64(i.batch) <= batch })
	}
}

// confirm forgets what was sent with answers, except what is lent.
func (s *Session) confirm() {
	if s.sent == (tally{}) {
		return
	}
	s.discard(func(i item) bool { return i.batch != 0 && !i.pushed && !s.isLent(i.batch) })
}

// refresh makes items fresh again whose answer was lost.
func (s *Session) refresh(lost func(batch uint32) bool) {
	for i := range s.log {
		if b := s.log[i].batch; b != 0 && !s.log[i].pushed && lost(b) {
			s.log[i].batch = 0
		}
	}
	s.discard(func(item) bool { return false })
}

// isLent reports whether a batch is on its way outside of a connect's answer.
func (s *Session) isLent(batch uint32) bool {
	for r := s.requests; r != nil; r = r.next {
		if r.batch == batch {
			return true
		}
	}
	return false
}

// returned ends the loan to an exchange and returns its batch, 0 if none.
func (s *Session) returned(ex Exchange) uint32 {
	for r := s.requests; r != nil; r = r.next {
		if r.exchange == ex && r.batch != 0 {
			s.drop(r)
			return r.batch
		}
	}
	return 0
}

// take appends to the answer what is to be sent with it, each event followed
// by a comma, marks it sent with the given batch, and returns the
// subscriptions of the notices among it. Without notices these stay, and events
// that are to be pushed do.
func (s *Session) take(a *Answer, batch uint32, notices bool) (resync []string) {
	events := !s.pushing()
	for n := range s.log {
		i := &s.log[n]
		if i.batch != 0 && !s.ack || i.event.Notice() && !notices || !i.event.Notice() && !events {
			continue
		}
		if i.batch == 0 {
			i.batch = batch
			s.sent.add(i.event)
		}
		if i.event.Notice() {
			resync = append(resync, i.event.Channel)
			continue
		}
		s.appendEvent(a, i.event)
	}
	s.fresh = tally{}
	if !notices || !events {
		s.discard(func(item) bool { return false })
	}
	return resync
}

func (s *Session) appendEvent(a *Answer, e *event.Event) {
	text := e.JSON
	if s.replay {
		text = e.Replay
	}
	a.Body = append(append(a.Body, text()...), ',')
	a.Events++
	if e.Appended().After(a.Newest) {
		a.Newest = e.Appended()
	}
}

// release pushes what there is to push, and answers a held connect if there is
// something to tell.
func (s *Session) release(now time.Time, out *Effects) {
	s.push(now, out)
	if s.connect.state == held && s.news() {
		s.answerConnect(now, out)
	}
}

// releaseSoon has a held connect answered when other losses have had the time
// to come.
func (s *Session) releaseSoon(now time.Time) {
	if s.connect.state == held {
		s.connect.due = min(s.connect.due, s.since(now.Add(s.cfg.Gather)))
	}
}

// news reports whether there is something for the next connect's answer.
func (s *Session) news() bool {
	return s.fresh.notices > 0 || s.fresh.events > 0 && !s.pushing()
}
