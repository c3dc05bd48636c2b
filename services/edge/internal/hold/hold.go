// Package hold keeps HTTP exchanges, streams and WebSockets open until there is
// something to say.
//
//  1. An exchange is answered at most once: the first Answer counts, later ones
//     are dropped and reported.
//  2. Answer and Send never block and never write; whoever holds the exchange or
//     the stream writes.
//  3. Every exchange that was given an owner ends in exactly one call of it:
//     Written after the answer was handed to the connection whole, Lost if the
//     peer vanished or the write failed. Likewise every stream ends in one call
//     of Ended.
//  4. Frames of a stream go out in the order in which they were sent; what waits
//     at one time goes out together. Nothing of a frame is left out in between.
//  5. Who takes nothing of what waits for the write timeout is cut, as is who
//     does not go on with a message it has begun. Cuts are counted by reason.
//  6. When the server drains, owners are asked for their answers and ends one by
//     one over a short time, so that the clients do not come back all at once.
//  7. A connection that an [Engine] accepted has no goroutine, buffer or timer
//     while it waits, and its descriptor is not used after it was closed.
//
// Session code sees nothing of this package: it names exchanges by number. So
// what holds an exchange can be a goroutine ([Waiting]) or a connection without
// one ([Engine]), and neither sessions nor the registry notice.
package hold

import (
	"net/http"
	"sync"
)

// Answer is what goes back on an exchange.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// Body is a Bayeux reply with status 200; else it is empty and the writer
	// finds words for the status.
	Body []byte
	// Left says that nobody answers here: the session left meanwhile.
	Left bool
}

// Owner hears how an exchange ended. Its methods must not block.
type Owner interface {
	Written(number uint64)
	Lost(number uint64)
	// Drain asks to answer soon: the server that holds the exchange is leaving.
	Drain(number uint64)
}

// Exchange is one HTTP request that awaits its answer.
type Exchange struct {
	number uint64
	owner  Owner // set before the exchange is held, or by the goroutine that holds it

	mu       sync.Mutex // leaf
	holder   holder     // nil until held
	answer   Answer
	answered bool

	replier Replier // of the engine; set before holder
}

// New returns an exchange. Numbers are unique in a process.
func New(number uint64) *Exchange {
	return &Exchange{number: number}
}

// Number is what sessions know the exchange by.
func (e *Exchange) Number() uint64 { return e.number }

// Own names who hears how the exchange ends. It is called at most once, before
// the first Answer.
func (e *Exchange) Own(o Owner) { e.owner = o }

// Owner returns who owns it, once it is held.
func (e *Exchange) Owner() Owner { return e.owner }

// Answer ends the exchange. It reports whether it was the first to do so; the
// answer may still not reach the peer.
func (e *Exchange) Answer(a Answer) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answered {
		return false
	}
	e.answer, e.answered = a, true
	if e.holder != nil {
		e.holder.wake()
	}
	return true
}

// hold names who keeps the exchange from now on. An answer that has come
// already wakes it.
func (e *Exchange) hold(h holder) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.holder = h
	if e.answered {
		h.wake()
	}
}

// taken returns the answer, if it has come.
func (e *Exchange) taken() (Answer, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.answer, e.answered
}

// over tells the owner how the exchange ended.
func (e *Exchange) over(written bool) {
	switch {
	case e.owner == nil:
	case written:
		e.owner.Written(e.number)
	default:
		e.owner.Lost(e.number)
	}
}

// Reply is a whole response, but for the headers that the handler of the
// request has set.
type Reply struct {
	Status int
	// Type is the Content-Type.
	Type string
	// Header has further headers, or is nil.
	Header http.Header
	Body   []byte
	// Close closes the connection behind it.
	Close bool
}

// Replier finds words for an answer, when it is to be written. It must not
// block.
type Replier interface {
	Reply(a Answer) Reply
}

// Holder keeps exchanges until they are answered.
type Holder interface {
	// Hold returns when the handler of the request may return: after the
	// exchange ended, or before, if the holder took the connection over. The
	// body of the request has been read.
	Hold(w http.ResponseWriter, r *http.Request, e *Exchange, replier Replier)
}
