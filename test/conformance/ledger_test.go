package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
)

// ledger follows one channel whose messages are numbered from 0, and fails the
// test when one is missing without a word, comes out of order, or comes twice
// on one connection.
type ledger struct {
	t       *testing.T
	tr      client.Transport
	client  *client.Client
	channel string

	next    int  // the number that comes next
	resumed bool // a Bayeux client may see again what it has seen
	told    bool // history is gone: any number may come next
	gap     bool // a Bayeux client misses some, and has to be told soon
	resyncs int
	reloads int // of a frame
	end     *client.Event
	err     error // how the connection ended
}

func newLedger(t *testing.T, tr client.Transport, channel string) *ledger {
	t.Helper()
	return ledgerFrom(t, tr, "", channel, 0)
}

// ledgerFrom begins at a cursor, after which the message next is due.
func ledgerFrom(t *testing.T, tr client.Transport, since, channel string, next int) *ledger {
	t.Helper()
	l := &ledger{t: t, tr: tr, client: tr.From(since, channel), channel: channel, next: next}
	t.Cleanup(l.client.Close)
	return l
}

// open opens the client, or opens it again.
func (l *ledger) open(s client.Server) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.client.Open(ctx, s); err != nil {
		l.t.Fatalf("%s: %v", l.tr.Name, err)
	}
	l.resumed, l.end, l.err = l.next > 0, nil, nil
}

// openWithin tries until a server takes the client.
func (l *ledger) openWithin(within time.Duration, s client.Server) {
	l.t.Helper()
	deadline := time.Now().Add(within)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := l.client.Open(ctx, s)
		cancel()
		if err == nil {
			l.resumed, l.end, l.err = l.next > 0, nil, nil
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: no server after %v: %v", l.tr.Name, within, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// until takes what comes until the message before n was seen. The connection
// must live that long.
func (l *ledger) until(n int) {
	l.t.Helper()
	if !l.takeUntil(n) {
		l.t.Fatalf("%s: the connection ended after message %d: %v, %+v", l.tr.Name, l.next-1, l.err, l.end)
	}
}

// takeUntil is until for connections that may end; it reports whether the
// message was seen.
func (l *ledger) takeUntil(n int) bool {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for l.next < n || l.gap {
		e, err := l.client.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			l.t.Fatalf("%s: message %d did not come; untold gap: %v", l.tr.Name, l.next, l.gap)
		}
		if err != nil {
			l.err = err
			return false
		}
		l.take(e)
	}
	return true
}

// untilResync takes what comes until the client is told that history is gone.
// The connection must live that long.
func (l *ledger) untilResync() {
	l.t.Helper()
	if !l.takeUntilResync() {
		l.t.Fatalf("%s: not told that history is gone: %v, %+v", l.tr.Name, l.err, l.end)
	}
}

// takeUntilResync is untilResync for connections that may end; it reports
// whether the client has ever been told.
func (l *ledger) takeUntilResync() bool {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for l.resyncs == 0 {
		e, err := l.client.Next(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			l.t.Fatalf("%s: not told that history is gone", l.tr.Name)
		}
		if err != nil {
			l.err = err
			return false
		}
		l.take(e)
	}
	return true
}

// untilEnd takes what comes until the connection ends.
func (l *ledger) untilEnd() {
	l.t.Helper()
	const never = 1 << 30
	l.takeUntil(never)
}

// take judges one event.
func (l *ledger) take(e client.Event) {
	l.t.Helper()
	if l.end != nil && e.Kind == client.Message {
		l.t.Errorf("%s: a message after the end: %.100s", l.tr.Name, e.Data)
	}
	switch e.Kind {
	case client.Opened:
		l.resumed = l.next > 0
		l.reloads++
	case client.Resync:
		if !slices.Contains(e.Channels, l.channel) {
			l.t.Errorf("%s: a resync of %v, not of %s", l.tr.Name, e.Channels, l.channel)
		}
		l.told, l.gap = !l.gap, false
		l.resyncs++
	case client.End:
		l.end = &e
	case client.Message:
		l.message(e)
	}
}

func (l *ledger) message(e client.Event) {
	l.t.Helper()
	var data struct{ N *int }
	if err := json.Unmarshal(e.Data, &data); err != nil || data.N == nil || e.Channel != l.channel {
		l.t.Fatalf("%s: not a message of %s: %v %+v", l.tr.Name, l.channel, err, e)
	}
	n := *data.N
	switch {
	case n == l.next || n > l.next && l.told:
		l.next, l.resumed, l.told = n+1, false, false
	case n > l.next && l.tr.Bayeux:
		l.next, l.resumed, l.gap = n+1, false, true
	case n < l.next && l.resumed && l.tr.Bayeux:
	default:
		l.t.Errorf("%s: message %d came where %d was due", l.tr.Name, n, l.next)
		l.next = max(l.next, n+1)
	}
}

// background runs f beside the test, which waits for it and takes its error.
func background(t *testing.T, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(fmt.Errorf("beside the test: %w", err))
		}
	})
}
