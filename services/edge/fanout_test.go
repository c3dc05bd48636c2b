package edge

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/clientid"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/hold"
	"github.com/comet-push/comet/services/edge/internal/hub"
	"github.com/comet-push/comet/services/edge/internal/transport"
)

// crowd is an edge that does not run, with sessions that subscribe to a channel.
type crowd struct {
	tb      testing.TB
	service *Service
	ids     []string
	polls   map[string]uint64 // the exchange of each one's connect
	next    uint64
	offset  uint64
}

func newCrowd(tb testing.TB, n int, channel string) *crowd {
	tb.Helper()
	open, err := namespace.NewSet(nil, namespace.Open())
	if err != nil {
		tb.Fatal(err)
	}
	s, err := build(Config{}.withDefaults(), Deps{
		Node: membership.Node{Name: "edge-0", ID: "e0"}, Namespaces: open,
		Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	keys := clientid.Ring(nil).Next(time.Now())
	s.keyring.ring.Store(&keys)
	c := &crowd{tb: tb, service: s, polls: map[string]uint64{}}
	c.shakeHands(n, channel)
	c.connect() // the first is answered at once
	return c
}

// shakeHands adds sessions that subscribe to a channel.
func (c *crowd) shakeHands(n int, channel string) {
	s := c.service
	for range n {
		c.ask(`[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]`)
	}
	for client := range s.registry.all() {
		id := client.session.ID()
		c.ids = append(c.ids, id)
		c.ask(fmt.Sprintf(`[{"channel":"/meta/subscribe","clientId":%q,"subscription":%q}]`, id, channel))
	}
	s.hub.Changes(func(change hub.Change) { s.hub.Joined(change.Channel, nil) })
}

// settle reports all answers as written.
func (c *crowd) settle() {
	for client := range c.service.registry.all() {
		for len(client.exchanges) > 0 {
			client.Written(client.exchanges[0].Number())
		}
	}
	clear(c.polls)
}

// ask hands messages to the edge as if a connection had brought them.
func (c *crowd) ask(text string) *hold.Exchange {
	c.tb.Helper()
	messages, err := bayeux.Decode([]byte(text), bayeux.Limits{})
	if err != nil {
		c.tb.Fatal(err)
	}
	c.next++
	e := hold.New(c.next)
	c.service.Receive(e, transport.Request{Messages: messages})
	return e
}

// connect lets all sessions connect, after they received the last answer.
func (c *crowd) connect() {
	for _, id := range c.ids {
		if last, ok := c.polls[id]; ok {
			c.service.registry.find(id).Written(last)
		}
		c.polls[id] = c.ask(fmt.Sprintf(`[{"channel":"/meta/connect","connectionType":"long-polling","clientId":%q}]`, id)).Number()
	}
}

func (c *crowd) entry(channel string) {
	c.offset++
	at := shard.Position{Slot: shard.Of(channel), Offset: c.offset}
	c.service.hub.Entry(event.New(channel, at, json.RawMessage(`{"price":42.5}`), nil, nil, time.Time{}))
}

// One more session costs a message no allocation but, now and then, room in
// that session's queue.
func TestFanOutToOneMoreSession(t *testing.T) {
	count := func(sessions int) float64 {
		c := newCrowd(t, sessions, "/a")
		return testing.AllocsPerRun(500, func() { c.entry("/a") })
	}
	if one, two := count(1), count(2); one != two {
		t.Errorf("%v allocations for one session, %v for two", one, two)
	}
}

// BenchmarkAnswer is the fan-out of one message to sessions whose connects are
// held: from the entry to the answers of all of them.
func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b, n, "/a")
			b.ReportAllocs()
			var took time.Duration
			for b.Loop() {
				b.StopTimer()
				c.connect()
				b.StartTimer()
				began := time.Now()
				c.entry("/a")
				took += time.Since(began)
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/float64(n), "ns/session")
		})
	}
}
