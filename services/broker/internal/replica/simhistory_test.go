package replica

import (
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is what a client did with an incarnation of a slot's log: it
// published a key, or read a channel.
type operation struct {
	client    int
	call, end int64
	key       string
	channel   string
	read      []string // keys
}

// thread is an incarnation of a slot.
type thread struct {
	slot int
	base uint64
}

// never is when a call ends that nobody was told the end of.
const never = 1 << 62

// record remembers what a client saw of a slot's incarnation.
func (w *world) record(slot int, base uint64, op operation) {
	at := thread{slot, base}
	w.histories[at] = append(w.histories[at], op)
}

// span is an operation on a log that is known: how many entries the log has at
// least and at most when it is possible, and how many it has then.
type span struct{ from, to, then int }

// linearizable checks what clients saw of each incarnation against one list
// (promise 1). The ledger knows the list, so that what is to be found is only at
// which of its lengths everybody read, and the number of entries is all there is
// of a state: a search among the publishes that nobody was told of would take
// time exponential in their number.
func (w *world) linearizable() {
	model := porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, _ any) (bool, any) {
			n, s := state.(int), input.(span)
			if n < s.from || n > s.to {
				return false, n
			}
			return true, max(n, s.then)
		},
	}
	for at, ops := range w.histories {
		book := w.books[at.slot]
		inc := book.of(at.base)
		var calls []porcupine.Operation
		known := map[string]bool{}
		for _, op := range ops {
			known[op.key] = true
			s, ok := inc.span(op)
			book.require(ok, "R10: %+v was seen, which is not in the log after %d", op, at.base)
			calls = append(calls, porcupine.Operation{ClientId: op.client, Input: s, Call: op.call, Return: op.end})
		}
		for _, op := range w.publishes {
			if inc.keys[op.key] > 0 && op.slot == at.slot && !known[op.key] {
				s, _ := inc.span(operation{key: op.key})
				calls = append(calls, porcupine.Operation{ClientId: op.c.id, Input: s, Call: op.call, Return: never})
			}
		}
		const longest = 10 * time.Second // a check takes less than a millisecond
		switch porcupine.CheckOperationsTimeout(model, calls, longest) {
		case porcupine.Illegal:
			book.require(false, "not linearizable: %+v: %+v", at, ops)
		case porcupine.Unknown:
			book.require(false, "not known to be linearizable after %v: bound this history of %d calls", longest, len(calls))
		}
	}
}

// span says at which lengths of the log an operation is possible; false: never.
func (i *incarnation) span(op operation) (span, bool) {
	if op.key != "" {
		offset, ok := i.keys[op.key]
		n := int(offset - i.base)
		return span{n - 1, n - 1, n}, ok
	}
	var all []string
	s := span{to: len(i.entries)}
	for n, e := range i.entries {
		if e.Channel != op.channel {
			continue
		}
		if len(all) == len(op.read) {
			s.to = n
			break
		}
		all = append(all, e.Key)
		s.from = n + 1
	}
	return s, slices.Equal(all, op.read)
}
