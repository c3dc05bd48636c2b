package hold

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/comet-push/comet/internal/run"
)

// Waiting holds exchanges and streams by keeping the goroutines of their
// handlers.
type Waiting struct {
	// WriteTimeout bounds the writing of one answer, or of what goes out of a
	// stream at once, and the arrival of one message of a WebSocket.
	WriteTimeout time.Duration
	// DrainWindow is the time over which a drain is spread.
	DrainWindow time.Duration
	// Cut counts the connections that were cut. It may be nil.
	Cut func(Reason)
}

var (
	_ Holder   = Waiting{}
	_ Streamer = Waiting{}
)

// bell is a holder that is a goroutine.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) wake() {
	select {
	case b <- struct{}{}:
	default:
	}
}

func (bell) spares() *spares { return nil }

// Hold implements [Holder].
func (h Waiting) Hold(w http.ResponseWriter, r *http.Request, e *Exchange, replier Replier) {
	a, ok := h.await(r.Context(), e)
	if ok {
		// Not every writer has deadlines; one without cannot be bounded here.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.WriteTimeout))
		err := write(w, replier.Reply(a))
		h.count(err)
		ok = err == nil
	} else {
		h.cut(Gone)
	}
	e.over(ok)
}

// write writes a response and flushes it, so that an error tells whether the
// connection took it.
func write(w http.ResponseWriter, reply Reply) error {
	h := w.Header()
	maps.Copy(h, reply.Header)
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
	if a, ok := e.taken(); ok {
		return a, true
	}
	answered := newBell()
	e.hold(answered)
	select {
	case <-answered:
		return e.taken()
	case <-ctx.Done():
	}
	if e.owner == nil || !draining(ctx) {
		return Answer{}, false
	}
	turn := time.NewTimer(h.turn())
	defer turn.Stop()
	select {
	case <-answered:
		return e.taken()
	case <-turn.C:
	}
	e.owner.Drain(e.number)
	<-answered
	return e.taken()
}

// turn is when in a drain somebody's turn comes.
func (h Waiting) turn() time.Duration { return rand.N(max(h.DrainWindow, 1)) }

func draining(ctx context.Context) bool { return errors.Is(context.Cause(ctx), run.ErrDraining) }

var errGone = errors.New("the peer vanished")

// count counts the end of a connection that failed.
func (h Waiting) count(err error) {
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT): // here, or in the kernel
		h.cut(Slow)
	default:
		h.cut(Gone)
	}
}

func (h Waiting) cut(reason Reason) {
	if h.Cut != nil {
		h.Cut(reason)
	}
}
