package comettest_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
)

var day = flag.Duration("churn", time.Hour, "how long TestChurn lasts, in virtual time")

// TestChurn lets clients of all kinds come and go, in all ways, for hours. What
// they are told is checked, and nothing is left of them. -churn=24h is a whole day, -seed another one.
func TestChurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, churn)
}

func churn(t *testing.T) {
	c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 2, Presence: 1, Pace: 15 * time.Second, Configure: func(_ string, cfg *config.Config) {
		cfg.Edge.PollTimeout, cfg.Edge.Heartbeat = 10*time.Minute, 10*time.Minute // what little happens is to be of the clients' doing
	}})
	c.Balanced(time.Minute)
	var publishers []*comettest.Publisher
	for i := range 4 {
		publishers = append(publishers, c.Publish("backend", fmt.Sprintf("/churn/%d", i), time.Duration(4+i)*time.Minute))
	}
	time.Sleep(time.Minute)
	before := comettest.Goroutines()

	clients := crowd(c)
	end := time.Now().Add(*day)
	var lives sync.WaitGroup
	for i, client := range clients {
		lives.Go(func() { live(client, rand.New(rand.NewPCG(*seed, uint64(i))), end) })
	}
	lives.Wait()
	settle(t, publishers)
	for i, client := range clients {
		if err := comettest.Check(client, publishers...); err != nil {
			t.Error(err)
		}
		[]func(){client.Vanish, client.Leave, client.Stop}[i%3]()
	}
	time.Sleep(15 * time.Minute)
	report(t, clients)
	nothingIsLeft(t, c, clients)
	if after := comettest.Goroutines(); after > before {
		t.Errorf("%d goroutines, %d before anybody came", after, before)
	}
}

// crowd connects clients of all transports to each of two edges.
func crowd(c *comettest.Cluster) (clients []*comettest.Client) {
	kinds := []comettest.Profile{
		{Transport: comettest.LongPolling},
		{Transport: comettest.LongPolling, Ack: true},
		{Transport: comettest.WebSocket},
		{Transport: comettest.WebSocket, Ack: true},
		{Transport: comettest.LongPoll},
		{Transport: comettest.SSE},
		{Transport: comettest.Stream},
		{Transport: comettest.PlainSocket},
	}
	channels := [][]string{{"/churn/0"}, {"/churn/*"}, {"/churn/1", "/churn/2"}, {"/churn/3", "/churn/**"}}
	for i := range 32 {
		p := kinds[i%len(kinds)]
		p.Name = fmt.Sprintf("%s-%d", p.Transport, i)
		p.Channels = channels[i/len(kinds)]
		p.Edges = []string{"edge-0", "edge-1"}
		if i%3 == 0 {
			p.Edges = []string{"edge-1", "edge-0"}
		}
		clients = append(clients, c.Connect(p))
	}
	return clients
}

// live reads, is cut, and comes and goes, until it is time: as often in hours as
// in a day. It is there then.
func live(client *comettest.Client, random *rand.Rand, end time.Time) {
	hour := *day / 24
	for time.Now().Before(end) {
		time.Sleep(time.Duration(random.IntN(int(hour))))
		switch random.IntN(5) {
		case 0:
			client.Cut()
			continue
		case 1:
			client.Move()
			continue
		case 2:
			client.Vanish()
		case 3:
			client.Leave()
		case 4:
			client.Stop()
		}
		time.Sleep(time.Duration(random.IntN(int(hour / 3))))
		client.Return()
	}
}

// report logs what happened, and sees to it that enough did.
func report(t *testing.T, clients []*comettest.Client) {
	t.Helper()
	for _, client := range clients {
		events, resyncs := len(client.Of(comettest.Event)), len(client.Of(comettest.Resync))
		left, cut := len(client.Of(comettest.Left)), len(client.Of(comettest.Cut))
		t.Logf("%s: %d events, %d resyncs, %d sessions, left %d times, cut %d times",
			client.Name, events, resyncs, len(client.Of(comettest.Session)), left, cut)
		if events == 0 || left == 0 {
			t.Errorf("%s: next to nothing happened", client.Name)
		}
	}
}

func nothingIsLeft(t *testing.T, c *comettest.Cluster, clients []*comettest.Client) {
	t.Helper()
	for _, edge := range []string{"edge-0", "edge-1"} {
		for _, metric := range []string{
			"comet_edge_sessions", "comet_edge_sockets", "comet_edge_readers", "comet_edge_channels", "comet_edge_connects_held",
		} {
			if n := c.Value(edge, metric); n != 0 {
				t.Errorf("%s of %s is %v", metric, edge, n)
			}
		}
		for _, client := range clients {
			if n := c.Net.Conns(client.Name, edge); n != 0 {
				t.Errorf("%s has %d connections of %s", edge, n, client.Name)
			}
		}
	}
	if n := c.Sessions("presence-0"); n != 0 {
		t.Errorf("presence knows %d sessions", n)
	}
}
