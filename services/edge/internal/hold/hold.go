// Package hold keeps HTTP exchanges open until there is something to say.
//
//  1. An exchange is answered at most once: the first Answer counts, later ones
//     are dropped and reported.
//  2. Answer never blocks and never writes; whoever holds the exchange writes.
//  3. Every exchange that was given an owner ends in exactly one call of it:
//     Written after the answer was handed to the connection whole, Lost if the
//     peer vanished or the write failed.
//  4. When the server drains, owners are asked for their answers one by one
//     over a short time, so that the clients do not come back all at once.
//
// Session code sees nothing of this package: it names exchanges by number. So
// what holds an exchange can be a goroutine, as here, or a parked connection
// without one, and neither sessions nor the registry notice.
package hold

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/comet-push/comet/internal/run"
)

// Answer is what goes back on an exchange.
type Answer struct {
	// Status is the HTTP status.
	Status int
	// Body is a Bayeux reply with status 200; else it is empty and the writer
	// finds words for the status.
	Body []byte
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
	answer chan Answer // of one; sent to by the first Answer only

	answered atomic.Bool
	owner    Owner // set before the exchange is held, or by the goroutine that holds it
}

// New returns an exchange. Numbers are unique in a process.
func New(number uint64) *Exchange {
	return &Exchange{number: number, answer: make(chan Answer, 1)}
}

// Number is what sessions know the exchange by.
func (e *Exchange) Number() uint64 { return e.number }

// Own names who hears how the exchange ends. It is called at most once, before
// the first Answer.
func (e *Exchange) Own(o Owner) { e.owner = o }

// Answer ends the exchange. It reports whether it was the first to do so; the
// answer may still not reach the peer.
func (e *Exchange) Answer(a Answer) bool {
	if !e.answered.CompareAndSwap(false, true) {
		return false
	}
	e.answer <- a
	return true
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

// Waiting holds an exchange by keeping its handler's goroutine.
type Waiting struct {
	// WriteTimeout bounds the writing of one answer.
	WriteTimeout time.Duration
	// DrainWindow is the time over which a drain is spread.
	DrainWindow time.Duration
}

// Hold implements [Holder].
func (h Waiting) Hold(w http.ResponseWriter, r *http.Request, e *Exchange, replier Replier) {
	a, ok := h.await(r.Context(), e)
	if ok {
		// Not every writer has deadlines; one without cannot be bounded here.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.WriteTimeout))
		ok = write(w, replier.Reply(a)) == nil
	}
	if e.owner == nil {
		return
	}
	if ok {
		e.owner.Written(e.number)
	} else {
		e.owner.Lost(e.number)
	}
}

// write writes a response and flushes it, so that an error tells whether the
// connection took it.
func write(w http.ResponseWriter, reply Reply) error {
	h := w.Header()
	for name, values := range reply.Header {
		h[name] = values
	}
	h.Set("Content-Type", reply.Type)
	h.Set("Content-Length", strconv.Itoa(len(reply.Body)))
	if reply.Close {
		h.Set("Connection", "close")
	}
	w.WriteHeader(reply.Status)
	if _, err := w.Write(reply.Body); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// await returns the answer, or false if the peer vanished first. An answer that
// came at the same moment is lost with the peer.
func (h Waiting) await(ctx context.Context, e *Exchange) (Answer, bool) {
	select {
	case a := <-e.answer:
		return a, true
	case <-ctx.Done():
	}
	if e.owner == nil || !errors.Is(context.Cause(ctx), run.ErrDraining) {
		return Answer{}, false
	}
	turn := time.NewTimer(rand.N(max(h.DrainWindow, 1)))
	defer turn.Stop()
	select {
	case a := <-e.answer:
		return a, true
	case <-turn.C:
	}
	e.owner.Drain(e.number)
	return <-e.answer, true
}
