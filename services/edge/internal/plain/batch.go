package plain

import (
	"slices"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// batch is the answer of a poll or long-poll while it is made.
type batch struct {
	events   []*event.Event
	messages int // how many more there is room for
	bytes    int // likewise
	resync   []string
	end      Reason
	retry    time.Duration
	until    time.Duration // when a long-poll is answered without news
	holding  bool          // everything has been read
}

func (b *batch) full() bool { return b.messages <= 0 || b.bytes <= 0 }

// take adds an event, unless there is no room. Those of channels that have lost
// history are passed over.
func (b *batch) take(e *event.Event) bool {
	switch {
	case b.lacks(e.Channel):
		return true
	case b.full():
		return false
	}
	b.events = append(b.events, e)
	b.messages--
	b.bytes -= e.Size()
	return true
}

// lacks reports whether a channel has lost history.
func (b *batch) lacks(channel string) bool {
	return slices.ContainsFunc(b.resync, func(lost string) bool { return bayeux.Match(lost, channel) })
}

// lose notes that channels have lost history: what there is of it is not sent.
func (b *batch) lose(channels []string) {
	b.resync = union(b.resync, channels)
	b.events = slices.DeleteFunc(b.events, func(e *event.Event) bool {
		if !b.lacks(e.Channel) {
			return false
		}
		b.messages++
		b.bytes += e.Size()
		return true
	})
}

// advance reads on, answers, or holds.
func (r *Reader) advance(at time.Duration, out *Effects) {
	b := r.batch
	if s := r.start; s != nil {
		if !r.opened || s.asked != nil {
			return
		}
		if !b.full() {
			r.ask(s.next(), min(b.messages, r.cfg.Page), out)
			return
		}
		// What is left is for the next request, which has to know where the
		// slots begin.
		if slots := s.unbegun(r.cfg.Ahead); len(slots) > 0 {
			r.ask(slots, 1, out)
			return
		}
	}
	if r.shape == Poll || len(b.events) > 0 || len(b.resync) > 0 || at >= b.until {
		r.answer(out)
		return
	}
	b.holding = true
}

// answerWith answers a long-poll with an event that was pushed.
func (r *Reader) answerWith(e *event.Event, out *Effects) {
	at := e.At
	if r.batch.lacks(e.Channel) {
		at.Offset-- // it is left to the next request
	}
	r.batch.take(e)
	r.at = at.Offset
	r.live(at)
	r.answer(out)
}

func (r *Reader) answer(out *Effects) {
	b := r.batch
	cursor := r.cursor()
	if cursor == shard.Earliest {
		b.events = nil // which come again
	}
	for _, e := range b.events {
		out.count(e)
	}
	full := Batch{Events: b.events, Cursor: cursor, Resync: b.resync, End: b.end, Retry: b.retry}
	out.Answer = Answer{Body: full.Append(nil), Cursor: cursor}
	r.close(Answered, out)
}
