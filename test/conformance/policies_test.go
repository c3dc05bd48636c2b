package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/comet-push/comet/test/internal/client"
	"github.com/comet-push/comet/test/internal/cluster"
)

const slowly = `namespaces:
  - {pattern: "/oldest/**", subscribe: anyone, publish: anyone, slow: drop_oldest}
  - {pattern: "/latest/**", subscribe: anyone, publish: anyone, slow: conflate}
  - {pattern: "/all/**", subscribe: anyone, publish: anyone, slow: recover, messages: 1000, bytes: 32MiB}
`

// What is published while nobody reads: more than the kernel, a stream and the
// queue of a client take.
const (
	queueBytes  = 256 << 10
	burstSize   = 20_000
	burstLength = 180
)

// TestSlowPolicies has clients stop reading until more is published than may
// wait for them. What becomes of it is the namespace's choice, and is counted.
func TestSlowPolicies(t *testing.T) {
	t.Parallel()
	p := cluster.Alone(t, "--config="+cluster.Config(t, slowly), fmt.Sprint("--edge.queue-bytes=", queueBytes), "--broker.slot-bytes=64MiB")
	s := newSite(p.Internal, client.Server{URL: "http://" + p.HTTP})
	slow := []client.Transport{client.Named("sse"), client.Named("ws"), client.Named("websocket")}
	t.Run("drop_oldest", func(t *testing.T) {
		all, missed := catchUp(t, s, slow, "/oldest")
		for _, l := range all {
			if tail := burstLength - l.gapEnd; tail < queueBytes/burstSize/2 {
				t.Errorf("%s: only the %d newest messages are in one piece", l.name, tail)
			}
		}
		counted(t, p, "comet_edge_dropped_total", "oldest", missed)
	})
	t.Run("conflate", func(t *testing.T) {
		_, missed := catchUp(t, s, slow, "/latest", "/a", "/b", "/c")
		counted(t, p, "comet_edge_dropped_total", "conflated", missed)
	})
	t.Run("recover", func(t *testing.T) { recovers(t, s, p, slow) })
}

// counted compares a metric with what clients saw.
func counted(t *testing.T, p *cluster.Process, metric, reason string, want int) {
	t.Helper()
	got, err := p.Metric(fmt.Sprintf("%s{reason=%q}", metric, reason))
	if err != nil || int(got) != want || want == 0 {
		t.Errorf("%s of %s: %v, %v; clients saw %d", metric, reason, got, err, want)
	}
}

// lagger is a client that did not read for a while, of channels with messages
// numbered from 0.
type lagger struct {
	t        *testing.T
	name     string
	client   *client.Client
	channels []string
	next     map[string]int // the number that is due
	missed   int
	gapEnd   int // the number behind the newest gap of any channel
}

// catchUp opens clients, publishes while they do not read, and has them read
// on: on the same connection, in order, and without a word on what is missing.
func catchUp(t *testing.T, s *site, transports []client.Transport, prefix string, names ...string) (all []*lagger, missed int) {
	t.Helper()
	channels := []string{channel(t, prefix)}
	if len(names) > 0 {
		root := channels[0]
		channels = nil
		for _, name := range names {
			channels = append(channels, root+name)
		}
	}
	for _, tr := range transports {
		all = append(all, newLagger(t, tr, s, channels))
	}
	last := burstLength / len(channels)
	numberAll(t, s, channels, 0, last, burstSize)
	for _, l := range all {
		if l.readTo(last); l.missed == 0 {
			t.Errorf("%s: nothing is missing", l.name)
		}
		missed += l.missed
	}
	numberAll(t, s, channels, last, last+1, 0)
	for _, l := range all {
		before := l.missed
		if l.readTo(last + 1); l.missed != before {
			t.Errorf("%s: %d messages are missing though it reads", l.name, l.missed-before)
		}
	}
	return all, missed
}

func newLagger(t *testing.T, tr client.Transport, s *site, channels []string) *lagger {
	t.Helper()
	l := &lagger{t: t, name: tr.Name, client: tr.New(channels...), channels: channels, next: map[string]int{}}
	l.client.SmallBuffers = true
	t.Cleanup(l.client.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.client.Open(ctx, s.doors[0]); err != nil {
		t.Fatalf("%s: %v", tr.Name, err)
	}
	return l
}

// numberAll publishes to channels at once.
func numberAll(t *testing.T, s *site, channels []string, from, to, filling int) {
	t.Helper()
	var publishing sync.WaitGroup
	for _, name := range channels {
		publishing.Go(func() {
			if err := s.number(name, from, to, filling); err != nil {
				t.Error(err)
			}
		})
	}
	publishing.Wait()
}

// readTo reads until the message in front of a number has come on all channels.
func (l *lagger) readTo(number int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	behind := func() bool {
		for _, name := range l.channels {
			if l.next[name] < number {
				return true
			}
		}
		return false
	}
	for behind() {
		e, err := l.client.Next(ctx)
		switch {
		case err != nil || e.Kind == client.Resync || e.Kind == client.End:
			l.t.Fatalf("%s: %+v, %v where messages are due: %v", l.name, e, err, l.next)
		case e.Kind != client.Message:
			continue
		}
		var data struct{ N int }
		if err := json.Unmarshal(e.Data, &data); err != nil || data.N < l.next[e.Channel] {
			l.t.Fatalf("%s: %v, message %d of %s where %d was due", l.name, err, data.N, e.Channel, l.next[e.Channel])
		}
		if gap := data.N - l.next[e.Channel]; gap > 0 {
			l.missed += gap
			l.gapEnd = data.N
		}
		l.next[e.Channel] = data.N + 1
	}
}

// recovers: who may miss nothing is cut, or told, and gets all of it.
func recovers(t *testing.T, s *site, p *cluster.Process, transports []client.Transport) {
	name := channel(t, "/all")
	var all []*ledger
	for _, tr := range transports {
		l := newLedger(t, tr, name)
		l.client.SmallBuffers = true
		l.open(s.doors[0])
		all = append(all, l)
	}
	if err := s.number(name, 0, burstLength, burstSize); err != nil {
		t.Fatal(err)
	}
	cuts := 0
	for _, l := range all {
		if l.tr.Bayeux {
			l.until(burstLength)
			if l.resyncs == 0 {
				t.Errorf("%s: nobody told what is missing", l.tr.Name)
			}
			continue
		}
		l.untilEnd()
		cuts++
		closed, isClose := errors.AsType[*client.CloseError](l.err)
		const tryAgain = 1013
		if l.end == nil || l.end.Reason != "slow" || l.tr.Socket != (isClose && closed.Code == tryAgain) {
			t.Errorf("%s: ended with %+v, %v", l.tr.Name, l.end, l.err)
		}
		l.client.SmallBuffers = false
		l.open(s.doors[0])
		l.until(burstLength)
		if l.resyncs > 0 {
			t.Errorf("%s: %d resyncs though all is retained", l.tr.Name, l.resyncs)
		}
	}
	counted(t, p, "comet_edge_readers_ended_total", "slow", cuts)
	if got, err := p.Metric(`comet_edge_dropped_total{reason="overflow"}`); err != nil || got == 0 {
		t.Errorf("%v events dropped for overflow: %v", got, err)
	}
}
