package upstream

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
)

// pending is a publication without an answer. It is guarded by Publisher.mu
// once it is in a lane.
type pending struct {
	done     func(Ack, error)
	deadline time.Time
	slot     shard.Slot
	size     int

	req   *brokerv1.Offer // as last sent; a stream may still be reading it
	first brokerv1.Offer  // the first req, to save an allocation
	on    *appendStream   // where it was last sent; nil: nowhere yet

	next     *pending
	answered bool // it only waits to be the head, and dropped
	refused  bool // by a broker that does not own the slot
}

// overhead is what a publication costs beside its bytes.
const overhead = 256

func newPending(m Publication, done func(Ack, error)) *pending {
	x := &pending{done: done, slot: shard.Of(m.Channel)}
	if m.Key == "" {
		m.Key, x.first.Fresh = newKey(), true
	}
	x.size = overhead + len(m.Channel) + len(m.Data) + len(m.Ext) + len(m.Members)
	x.req = &x.first
	x.req.Channel = m.Channel
	x.req.Data, x.req.Ext, x.req.Members = m.Data, m.Ext, m.Members
	x.req.Session, x.req.Id = m.Session, m.ID
	x.req.IdempotencyKey = m.Key
	return x
}

func newKey() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	var text [32]byte
	hex.Encode(text[:], random[:])
	return string(text[:])
}

// again returns the request for another stream. The old one is not touched: a
// stream may be sending it at this moment.
func (x *pending) again() *brokerv1.Offer {
	if x.on == nil {
		return x.req
	}
	old := x.req
	x.req = &brokerv1.Offer{
		Channel: old.GetChannel(), Data: old.GetData(), Ext: old.GetExt(), Members: old.GetMembers(),
		Session: old.GetSession(), Id: old.GetId(), IdempotencyKey: old.GetIdempotencyKey(),
	}
	return x.req
}

// lane is the queue of one slot: everything unanswered in the order of Publish
// calls. Of these, all before unsent were sent on stream. Guarded by Publisher.mu.
type lane struct {
	slot         shard.Slot
	head, tail   *pending
	unsent       *pending // nil: all were sent
	count, bytes int

	stream   *appendStream // nil: the lane is stopped
	row      shard.Row     // by which stream was chosen
	failures int           // since the last answer
	retryAt  time.Time     // not before, unless the row changes
}

func (l *lane) push(x *pending) {
	if l.tail == nil {
		l.head = x
	} else {
		l.tail.next = x
	}
	l.tail = x
	if l.unsent == nil {
		l.unsent = x
	}
	l.count++
	l.bytes += x.size
}

// settle takes an answered publication out of the lane.
func (l *lane) settle(x *pending) {
	x.answered = true
	l.count--
	l.bytes -= x.size
	for l.head != nil && l.head.answered {
		if l.unsent == l.head {
			l.unsent = l.head.next
		}
		l.head = l.head.next
	}
	if l.head == nil {
		l.tail = nil
	}
}

// stop ends sending until the lane is started again.
func (l *lane) stop() { l.stream = nil }

// fail stops the lane for a while.
func (l *lane) fail(now time.Time) {
	l.stop()
	l.failures++
	l.retryAt = now.Add(retry(l.failures))
}

// refuse notes that a broker does not own the slot: x waits to be sent again.
func (l *lane) refuse(x *pending, by *appendStream, now time.Time) {
	x.refused = true
	if l.stream == by {
		l.fail(now)
	}
}

// rewind makes the lane send from its head, and returns how many of these were
// sent before.
func (l *lane) rewind() int {
	sent := 0
	for x := l.head; x != nil; x = x.next {
		if x.on != nil && !x.answered {
			sent++
		}
		x.refused = false
	}
	l.unsent = l.head
	return sent
}

// takeRefused takes out what is before x and was refused, although x was, or
// may have been, accepted: a broker got the slot back in the middle of a
// stream. Sent again it would come after x.
func (l *lane) takeRefused(x *pending) []*pending {
	if x == nil {
		return nil
	}
	var taken []*pending
	for e := l.head; e != nil && e != x; e = e.next {
		if e.refused && !e.answered {
			taken = append(taken, e)
		}
	}
	return l.settleAll(taken)
}

// lastOn returns the last publication that a stream has not answered.
func (l *lane) lastOn(st *appendStream) *pending {
	var last *pending
	for e := l.head; e != nil && e.on != nil; e = e.next {
		if e.on == st && !e.refused && !e.answered {
			last = e
		}
	}
	return last
}

// takeExpired takes out what waited too long; deadlines are in queue order.
func (l *lane) takeExpired(now time.Time, taken []*pending) []*pending {
	var own []*pending
	for e := l.head; e != nil && !e.deadline.After(now); e = e.next {
		if !e.answered {
			own = append(own, e)
		}
	}
	return append(taken, l.settleAll(own)...)
}

// takeAll empties the lane.
func (l *lane) takeAll(taken []*pending) []*pending {
	var own []*pending
	for e := l.head; e != nil; e = e.next {
		if !e.answered {
			own = append(own, e)
		}
	}
	return append(taken, l.settleAll(own)...)
}

func (l *lane) settleAll(all []*pending) []*pending {
	for _, x := range all {
		l.settle(x)
	}
	return all
}
