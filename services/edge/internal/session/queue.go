package session

import (
	"slices"
	"time"

	"github.com/comet-push/comet/services/edge/internal/event"
)

// item is an event or notice on its way to the client.
type item struct {
	event *event.Event
	batch uint64 // 0: fresh, else the answer it was first sent with
}

// tally sums up items.
type tally struct{ events, notices, bytes int }

func (t *tally) add(e *event.Event) {
	if e.Notice() {
		t.notices++
		return
	}
	t.events++
	t.bytes += e.Size()
}

// lent is a batch on its way outside of a connect's answer.
type lent struct {
	exchange Exchange
	batch    uint64
}

// keep is how many items' room an empty log keeps for the next ones.
const keep = 16

// enqueue appends an event to the log, or drops the log where it is full.
func (s *Session) enqueue(e *event.Event, out *Effects) {
	if s.full(e.Size()) {
		s.overflow(e, out)
		if s.full(e.Size()) {
			return
		}
	}
	s.log = append(s.log, item{event: e})
	s.fresh.add(e)
}

// full reports whether an event of this size does not fit.
func (s *Session) full(size int) bool {
	c := s.cfg
	return s.fresh.events >= c.QueueMessages || s.fresh.bytes+size > c.QueueBytes ||
		s.fresh.events+s.sent.events >= 2*c.QueueMessages || s.fresh.bytes+s.sent.bytes+size > 2*c.QueueBytes
}

// overflow drops what is fresh, and what was sent if that does not make room,
// so that e fits; it leaves notices for all that is lost.
func (s *Session) overflow(e *event.Event, out *Effects) {
	lost := map[string]bool{}
	var direct []string
	drop := func(i item) bool {
		if i.event.Notice() {
			return false
		}
		out.Dropped.Overflow++
		lost[i.event.Channel] = true
		if i.event.At.Offset == 0 && !slices.Contains(direct, i.event.Channel) {
			direct = append(direct, i.event.Channel)
		}
		return true
	}
	s.discard(func(i item) bool { return i.batch == 0 && drop(i) })
	if s.full(e.Size()) {
		s.discard(func(i item) bool { return i.batch != 0 && drop(i) })
	}
	if s.full(e.Size()) {
		drop(item{event: e})
	}
	for _, sub := range s.subs {
		if sub.state == active && sub.lost(lost) {
			s.notice(sub.channel)
		}
	}
	for _, channel := range direct {
		s.notice(channel)
	}
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
	if len(s.log) == 0 && cap(s.log) > keep {
		s.log = nil
	}
}

// acknowledge forgets the batches up to the given one.
func (s *Session) acknowledge(batch uint64) {
	if batch <= s.batch && len(s.log) > 0 {
		s.discard(func(i item) bool { return i.batch != 0 && i.batch <= batch })
	}
}

// confirm forgets what was sent, except what is lent.
func (s *Session) confirm() {
	if s.sent == (tally{}) {
		return
	}
	s.discard(func(i item) bool { return i.batch != 0 && !s.isLent(i.batch) })
}

// refresh makes items fresh again whose batch was lost.
func (s *Session) refresh(lost func(batch uint64) bool) {
	for i := range s.log {
		if b := s.log[i].batch; b != 0 && lost(b) {
			s.log[i].batch = 0
		}
	}
	s.discard(func(item) bool { return false })
}

func (s *Session) isLent(batch uint64) bool {
	return slices.ContainsFunc(s.lent, func(l lent) bool { return l.batch == batch })
}

// returned ends the loan to an exchange and returns its batch, 0 if none.
func (s *Session) returned(ex Exchange) uint64 {
	i := slices.IndexFunc(s.lent, func(l lent) bool { return l.exchange == ex })
	if i < 0 {
		return 0
	}
	batch := s.lent[i].batch
	s.lent = slices.Delete(s.lent, i, i+1)
	return batch
}

// take appends to the answer what is to be sent with it, each event followed
// by a comma, marks it sent with the given batch, and returns the
// subscriptions of the notices among it. Without notices these stay.
func (s *Session) take(a *Answer, batch uint64, notices bool) (resync []string) {
	for n := range s.log {
		i := &s.log[n]
		if i.batch != 0 && !s.ack || i.event.Notice() && !notices {
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
	if !notices {
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

// release answers a held connect if there is something to tell.
func (s *Session) release(now time.Time, out *Effects) {
	if s.connect.state == held && s.news() {
		s.answerConnect(now, out)
	}
}

// releaseSoon has a held connect answered when other losses have had the time
// to come.
func (s *Session) releaseSoon(now time.Time) {
	if s.connect.state == held {
		s.connect.until = min(s.connect.until, s.since(now.Add(s.cfg.Gather)))
	}
}

func (s *Session) news() bool { return s.fresh.events+s.fresh.notices > 0 }
