package comettest_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/shard"
)

// world is a cluster under load from publishers of all manners, for clients of
// all transports: some follow busy channels, of which history keeps little, and
// some only calm ones, of which it keeps all.
type world struct {
	*comettest.Cluster

	t          *testing.T
	audit      *comettest.Audit
	publishers []*comettest.Publisher
	calm, busy []*comettest.Client
	brokers    int
}

// calmChannels are published to so seldom that nothing is dropped before a test
// is over, each beside a busy channel in its slot.
const calmChannels = 4

func newWorld(t *testing.T, o comettest.Options) *world {
	t.Helper()
	if o.Edges == 0 {
		o.Edges, o.Brokers, o.Presence = 2, 3, 1
	}
	w := &world{Cluster: comettest.New(t, o), t: t, brokers: o.Brokers}
	w.audit = w.Audit()
	w.Balanced(time.Minute)
	manners := []comettest.Manner{comettest.Keyed, comettest.Streamed, comettest.Unkeyed, comettest.Posted}
	for i := range calmChannels {
		calm := fmt.Sprintf("/calm/%d", i)
		w.publish(calm, manners[i], 4*time.Second)
		w.publish(neighbour(calm), manners[(i+1)%len(manners)], time.Duration(150+150*i)*time.Millisecond)
	}
	w.Read(w.publishers[0], 300*time.Millisecond)
	w.Read(w.publishers[1], 300*time.Millisecond)
	w.connect()
	return w
}

// neighbour is a busy channel in the slot of another.
func neighbour(channel string) string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("/busy/%d", i); shard.Of(name) == shard.Of(channel) {
			return name
		}
	}
}

func (w *world) publish(channel string, how comettest.Manner, every time.Duration) {
	w.publishers = append(w.publishers, w.PublishAs(comettest.Publishing{Channel: channel, Manner: how, Every: every}))
}

func (w *world) connect() {
	one := w.publishers[1].Channel
	for i, p := range []comettest.Profile{
		{Transport: comettest.LongPolling, Channels: []string{"/calm/*"}},
		{Transport: comettest.LongPolling, Ack: true, Channels: []string{"/calm/0", "/calm/1", "/calm/2", "/calm/3"}},
		{Transport: comettest.SSE, Channels: []string{"/calm/1"}},
		{Transport: comettest.Stream, Channels: []string{"/calm/**"}},
		{Transport: comettest.PlainSocket, Channels: []string{"/calm/2", "/calm/3"}},
		{Transport: comettest.WebSocket, Ack: true, Channels: []string{"/busy/*"}},
		{Transport: comettest.LongPolling, Channels: []string{one}},
		{Transport: comettest.LongPoll, Channels: []string{"/busy/**", "/calm/0"}},
		{Transport: comettest.SSE, Channels: []string{one}},
	} {
		p.Name = fmt.Sprintf("%s-%d", p.Transport, i)
		p.Edges = []string{fmt.Sprintf("edge-%d", i%2)}
		if i < 5 {
			w.calm = append(w.calm, w.Connect(p))
		} else {
			w.busy = append(w.busy, w.Connect(p))
		}
	}
}

// finish ends all faults, waits until the cluster is well, which must not take
// long, and checks everything that anybody was told.
func (w *world) finish() {
	w.t.Helper()
	w.Calm()
	for _, name := range w.names() {
		if !w.Runs(name) {
			w.Start(name)
		}
	}
	before := w.acked()
	time.Sleep(20 * time.Second)
	for i, n := range w.acked() {
		if n == before[i] {
			w.t.Errorf("%s: nothing was acknowledged for 20 s after everything was mended", w.publishers[i].Channel)
		}
	}
	w.Ready(time.Minute)
	w.Balanced(2 * time.Minute)
	settle(w.t, w.publishers)
	w.check()
}

func (w *world) acked() (last []int) {
	for _, p := range w.publishers {
		last = append(last, p.Acked())
	}
	return last
}

// check checks what everybody was told. Of calm channels nothing may be lost,
// but with all copies.
func (w *world) check() {
	w.t.Helper()
	clients := slices.Concat(w.calm, w.busy)
	for _, client := range clients {
		if err := comettest.Check(client, w.publishers...); err != nil {
			w.t.Error(err)
		}
		if len(client.Of(comettest.Event)) == 0 {
			w.t.Errorf("%s: nothing came", client.Name)
		}
		edge := client.Edges[0]
		if n := len(client.Of(comettest.Session)); n > w.Lives(edge)+len(client.Of(comettest.Refused)) {
			w.t.Errorf("%s had %d sessions in %d lives of %s", client.Name, n, w.Lives(edge), edge)
		}
	}
	if err := w.CheckTogether(w.publishers, clients); err != nil {
		w.t.Error(err)
	}
	for _, err := range w.audit.Err() {
		w.t.Error(err)
	}
	if len(w.audit.Anew()) == 0 {
		noResync(w.t, w.calm...)
	}
	for _, name := range w.names() {
		for _, metric := range []string{"comet_broker_alarms_total", "comet_broker_publishes_waiting", "comet_broker_uncommitted_bytes"} {
			if n := w.Value(name, metric); n != 0 {
				w.t.Errorf("%s of %s is %v", metric, name, n)
			}
		}
	}
}

// kept fails the test if a log began anew.
func (w *world) kept() {
	w.t.Helper()
	if anew := w.audit.Anew(); len(anew) > 0 {
		w.t.Errorf("%d slots began anew", len(anew))
	}
}

// nameOf is the node that a member is.
func nameOf(member string) string {
	name, _, _ := strings.Cut(member, "@")
	return name
}

// names are the brokers.
func (w *world) names() (names []string) {
	for i := range w.brokers {
		names = append(names, fmt.Sprintf("broker-%d", i))
	}
	return names
}

// others are the brokers but one.
func (w *world) others(broker string) []string {
	return slices.DeleteFunc(w.names(), func(name string) bool { return name == broker })
}

// all plays every scenario; without it those marked with CI are.
var all = flag.Bool("all", false, "play every scenario, not only those that CI does")

// scenario is what happens to a world, in a bubble. The faults that it begins
// end with it at the latest.
type scenario struct {
	name      string
	ci        bool
	do        func(w *world)
	configure func(string, *config.Config)
}

// playAll plays scenarios.
func playAll(t *testing.T, scenarios []scenario) {
	t.Helper()
	t.Parallel()
	for _, s := range scenarios {
		if !s.ci && !*all {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, comettest.Options{Configure: s.configure})
				time.Sleep(5 * time.Second)
				s.do(w)
				w.finish()
			})
		})
	}
}
