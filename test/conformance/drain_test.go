package conformance

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
	"github.com/comet-push/comet/test/internal/cluster"
)

// drain asks an edge to end while clients of every transport are on it: each
// is told to go, and, where there is another edge, misses nothing there.
func drain(t *testing.T, w *world, way string) {
	const before, after = 5, 20
	edges := w.edges(t, way, 1)
	s := newSite(w.rest(edges), w.door(t, way, edges[0]))
	elsewhere := s.doors[0]
	if w.split != nil {
		other := w.edges(t, way, 1)
		elsewhere = w.door(t, way, other[0])
	}
	var ready sync.WaitGroup
	leaving := make(chan struct{})
	t.Run("transports", func(t *testing.T) {
		for _, tr := range transports(way) {
			t.Run(tr.Name, func(t *testing.T) {
				ready.Add(1)
				t.Parallel()
				l := newLedger(t, tr, channel(t, "/drain"))
				func() {
					defer ready.Done()
					l.open(s.doors[0])
					if err := s.number(l.channel, 0, before, 0); err != nil {
						t.Fatal(err)
					}
					l.until(before)
				}()
				background(t, func() error {
					<-leaving
					if w.split == nil {
						return nil
					}
					return s.number(l.channel, before, after, 100)
				})
				l.untilEnd()
				sentAway(t, l)
				if w.split == nil {
					return
				}
				if l.end != nil {
					time.Sleep(l.end.Retry)
				}
				l.openWithin(patience, elsewhere)
				l.until(after)
				if l.resyncs > 0 {
					t.Errorf("%d resyncs though no broker has left", l.resyncs)
				}
			})
		}
		background(t, func() error {
			defer close(leaving)
			ready.Wait()
			time.Sleep(500 * time.Millisecond) // requests are held by now
			edges[0].Signal(t, syscall.SIGTERM)
			return nil
		})
	})
	if err := edges[0].Wait(patience); err != nil {
		t.Errorf("the process ended with %v", err)
	}
}

// sentAway checks how a client was told to go.
func sentAway(t *testing.T, l *ledger) {
	t.Helper()
	const restart = 1012
	closed, isClose := errors.AsType[*client.CloseError](l.err)
	restarts := isClose && closed.Code == restart
	if status, ok := errors.AsType[*client.StatusError](l.err); ok && !l.tr.Stream && status.Status == http.StatusServiceUnavailable {
		return // a proxy that has no other edge, between two requests
	}
	switch {
	case l.tr.Held && l.end == nil && (!restarts || !l.tr.Bayeux):
		t.Errorf("the connection ended with %v and without a word", l.err)
	case l.end != nil && l.end.Reason != "draining":
		t.Errorf("sent away with %+v", l.end)
	case l.end != nil && l.tr.Held && (l.end.Retry <= 0 || l.end.Retry > 10*time.Second):
		t.Errorf("sent away for %v", l.end.Retry)
	case l.tr.Name == "ws" && !restarts:
		t.Errorf("the socket ended with %v, want %d", l.err, restart)
	case l.tr.Stream && !l.tr.Socket && !errors.Is(l.err, io.EOF):
		t.Errorf("the response ended with %v, want its proper end", l.err)
	}
}

// historyLost takes all history away under clients of every transport: each is
// told, and gets what comes then.
func historyLost(t *testing.T, w *world, topology string) {
	edges := w.edges(t, http1, 1)
	s := newSite(w.rest(edges), w.door(t, http1, edges[0]))
	lost := edges
	if topology == "split" {
		lost = w.split.Brokers
	}
	var ready sync.WaitGroup
	for _, tr := range transports(http1) {
		t.Run(tr.Name, func(t *testing.T) {
			ready.Add(1)
			t.Parallel()
			l := newLedger(t, tr, channel(t, "/lost"))
			func() {
				defer ready.Done()
				l.open(s.doors[0])
				if err := s.number(l.channel, 0, 3, 0); err != nil {
					t.Fatal(err)
				}
				l.until(3)
			}()
			for !l.takeUntilResync() {
				l.openWithin(patience, s.doors[0]) // it was the same process
			}
			cluster.Eventually(t, patience, "the channel takes publishes", func() error { return s.number(l.channel, 3, 4, 0) })
			l.until(4)
		})
	}
	background(t, func() error {
		ready.Wait()
		for _, p := range lost {
			p.Kill()
		}
		for _, p := range lost {
			p.Start(t)
		}
		for _, p := range lost {
			p.Ready(t, time.Minute)
		}
		return nil
	})
}
