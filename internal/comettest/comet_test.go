package comettest_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
)

// TestPublishReachesBrowsers is the thinnest path through all services.
func TestPublishReachesBrowsers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 3, Presence: 1})
		c.Balanced(time.Minute)
		one := c.Client("one", "edge-0", "/a", "/b/**")
		two := c.Client("two", "edge-1", "/b/*")
		clients := append(everyKind(c, "edge-0", "/a", "/b/**"), one, two)
		a := c.Publish("backend", "/a", time.Second)
		b := c.Publish("backend", "/b/x", 700*time.Millisecond)
		time.Sleep(time.Minute)
		a.Stop()
		b.Stop()
		time.Sleep(5 * time.Second)
		for _, client := range clients {
			if err := comettest.Check(client, a, b); err != nil {
				t.Error(err)
			}
			if len(client.Of(comettest.Resync)) > 0 || len(client.Of(comettest.Session)) > 1 {
				t.Errorf("%s: a resync or a second session without need", client.Name)
			}
			if got := len(client.Of(comettest.Event)); client != two && got != a.Acked()+b.Acked() {
				t.Errorf("%s: %d events of %d", client.Name, got, a.Acked()+b.Acked())
			}
		}
		if got := len(two.Of(comettest.Event)); got != b.Acked() || got < 80 {
			t.Errorf("%d events of %d", got, b.Acked())
		}
	})
}

// TestHoursOfIdlePolling lets clients poll for six hours in which next to nothing
// is published. Sessions survive, and nothing grows: it runs alone, since there is
// one heap.
func TestHoursOfIdlePolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 1, Brokers: 1, Presence: 1, Pace: 15 * time.Second})
		var clients []*comettest.Client
		for i := range 3 {
			clients = append(clients, c.Client(fmt.Sprintf("client-%d", i), "edge-0", "/news", "/hourly/**"))
		}
		hourly := c.Publish("backend", "/hourly/x", time.Hour)
		time.Sleep(time.Hour)
		goroutines, heap := usage()
		time.Sleep(5 * time.Hour)
		if g, h := usage(); g > goroutines+10 || h > heap+heap/4+(1<<20) {
			t.Errorf("%d goroutines and %d bytes after an hour, %d and %d after six", goroutines, heap, g, h)
		}
		hourly.Stop()
		time.Sleep(time.Minute)
		for _, client := range clients {
			if err := comettest.Check(client, hourly); err != nil {
				t.Error(err)
			}
			if n := len(client.History()); n != 1+2+7 {
				t.Errorf("%s: %d records, want a session, two subscriptions and 7 events", client.Name, n)
			}
		}
	})
}

// usage returns how many goroutines there are, and how many bytes of heap.
func usage() (goroutines int, heap uint64) {
	synctest.Wait()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

// TestPartition cuts an edge off from every broker for half a minute while
// publishing goes on. What fits into history arrives late; of the rest the
// client is told.
func TestPartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 3, Presence: 1})
		c.Balanced(time.Minute)
		cut := c.Client("cut", "edge-0", "/slow", "/fast", "/many/**")
		others := append(mixed(c, "edge-1", "/fast", "/slow", "/many/*"), c.Client("other", "edge-1", "/slow", "/fast", "/many/*"))
		victims := append(mixed(c, "edge-0", "/fast", "/slow", "/fast", "/many/**"), cut)
		publishers := []*comettest.Publisher{
			c.Publish("backend", "/slow", time.Second),          // 30 in the partition: all retained
			c.Publish("backend", "/fast", 100*time.Millisecond), // 300: more than are retained
		}
		for i := range 6 {
			publishers = append(publishers, c.Publish("backend", fmt.Sprintf("/many/%d", i), 500*time.Millisecond))
		}
		time.Sleep(10 * time.Second)
		for i := range 3 {
			c.Net.Partition("edge-0", fmt.Sprintf("broker-%d", i))
		}
		time.Sleep(30 * time.Second)
		for i := range 3 {
			c.Net.Heal("edge-0", fmt.Sprintf("broker-%d", i))
		}
		healed := time.Now()
		time.Sleep(30 * time.Second)
		settle(t, publishers)

		check(t, publishers, append(others, victims...)...)
		for _, client := range others {
			if n := len(client.Of(comettest.Resync)); n != 0 {
				t.Errorf("an edge that was not cut off lost something: %v", client.Of(comettest.Resync))
			}
		}
		for _, client := range victims {
			for _, r := range client.Of(comettest.Resync) {
				if r.Channel != "/fast" {
					t.Errorf("%s: %s was lost, though all of it is retained", client.Name, r.Channel)
				}
			}
			if len(client.Of(comettest.Resync)) == 0 {
				t.Errorf("%s: more than is retained was published, and no resync", client.Name)
			}
		}
		for _, r := range cut.Of(comettest.Event) {
			if r.At.After(healed) {
				if late := r.At.Sub(healed); late > 15*time.Second {
					t.Errorf("the first event came %v after the partition", late)
				}
				break
			}
		}
	})
}

// replicas makes a cluster keep so many copies of each slot.
func replicas(n int) func(string, *config.Config) {
	return func(_ string, cfg *config.Config) { cfg.Broker.Replicas = n }
}

// TestRollingRestartOfBrokers drains and restarts every broker in turn while
// publishing goes on: same names, new and empty logs. Nobody notices, also with
// one copy.
func TestRollingRestartOfBrokers(t *testing.T) {
	t.Parallel()
	for _, copies := range []int{1, 3} {
		t.Run(fmt.Sprintf("replicas=%d", copies), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { rollingRestart(t, copies) })
		})
	}
}

func rollingRestart(t *testing.T, copies int) {
	c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 3, Presence: 1, Configure: replicas(copies)})
	c.Balanced(time.Minute)
	channels, publishers := publishTwelve(c, "/roll")
	literal := c.Client("literal", "edge-0", channels...)
	pattern := c.Client("pattern", "edge-1", "/roll/*")
	clients := append(mixed(c, "edge-0", channels[0], channels[:4]...), mixed(c, "edge-1", channels[1], "/roll/**")...)
	clients = append(clients, literal, pattern)
	time.Sleep(5 * time.Second)
	const restarts = 3 // each may turn a call away that comes meanwhile
	for i := range restarts {
		c.Restart(fmt.Sprintf("broker-%d", i))
		time.Sleep(10 * time.Second)
	}
	c.Balanced(time.Minute)
	time.Sleep(10 * time.Second)
	settle(t, publishers)

	check(t, publishers, clients...)
	noResync(t, clients...)
	for _, p := range publishers {
		if p.Slowest() > 250*time.Millisecond || p.Tries() > p.Acked()+restarts {
			t.Errorf("%s: %d tries for %d publishes, the slowest took %v", p.Channel, p.Tries(), p.Acked(), p.Slowest())
		}
	}
}

func noResync(t *testing.T, clients ...*comettest.Client) {
	t.Helper()
	for _, client := range clients {
		if lost := client.Of(comettest.Resync); len(lost) > 0 {
			t.Errorf("%s lost something: %v", client.Name, lost)
		}
	}
}

// TestCrashes ends a broker, and then an edge, from one moment to the next.
// With one copy, what the broker had is lost and told.
func TestCrashes(t *testing.T) {
	t.Parallel()
	for _, copies := range []int{1, 2} {
		t.Run(fmt.Sprintf("replicas=%d", copies), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { crashes(t, copies) })
		})
	}
}

func crashes(t *testing.T, copies int) {
	c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 3, Presence: 1, Configure: replicas(copies)})
	c.Balanced(time.Minute)
	channels, publishers := publishTwelve(c, "/crash")
	one := c.Client("one", "edge-0", channels...)
	two := c.Client("two", "edge-1", "/crash/**")
	others := append(mixed(c, "edge-1", channels[0], "/crash/*"), two)
	victims := mixed(c, "edge-0", channels[1], channels[:4]...)
	time.Sleep(5 * time.Second)

	c.Crash("broker-1")
	time.Sleep(20 * time.Second)
	c.Start("broker-1")
	c.Ready(time.Minute)
	c.Crash("edge-0")
	time.Sleep(5 * time.Second)
	c.Start("edge-0") // which knows nobody: sessions go on from their records
	c.Ready(time.Minute)
	time.Sleep(20 * time.Second)
	settle(t, publishers)

	check(t, publishers, others...)
	if copies > 1 {
		noResync(t, others...)
	} else if len(two.Of(comettest.Resync)) == 0 {
		t.Error("logs were lost, and no resync")
	}
	for _, client := range append(victims, one) {
		client.Repeats = repeated + 5*time.Second // while no edge was there
		if err := comettest.Check(client, publishers...); err != nil {
			t.Error(err)
		}
		if n := len(client.Of(comettest.Session)); n > 1 {
			t.Errorf("%s, of a crashed edge, had %d sessions, want one", client.Name, n)
		}
	}
	for _, p := range publishers {
		if p.Slowest() > 5*time.Second {
			t.Errorf("%s: a publish took %v", p.Channel, p.Slowest())
		}
	}
}

// TestDirectoryOutage takes the store away for a minute: traffic goes on.
func TestDirectoryOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 1, Brokers: 2, Presence: 1})
		c.Balanced(time.Minute)
		clients := append(mixed(c, "edge-0", "/x", "/x", "/y/**"), c.Client("client", "edge-0", "/x", "/y/**"))
		publishers := []*comettest.Publisher{
			c.Publish("backend", "/x", 100*time.Millisecond), c.Publish("backend", "/y/z", 100*time.Millisecond),
		}
		time.Sleep(5 * time.Second)
		c.Store.Disconnect(true)
		time.Sleep(time.Minute)
		c.Store.Disconnect(false)
		time.Sleep(20 * time.Second)
		settle(t, publishers)
		check(t, publishers, clients...)
		for _, client := range clients {
			if len(client.Of(comettest.Resync)) > 0 {
				t.Errorf("%s: an outage of the store cost %v", client.Name, client.Of(comettest.Resync))
			}
		}
		for _, p := range publishers {
			if p.Tries() != p.Acked() || p.Slowest() > time.Second {
				t.Errorf("%s: %d tries for %d publishes, the slowest took %v", p.Channel, p.Tries(), p.Acked(), p.Slowest())
			}
		}
	})
}

// everyKind connects a client of each transport.
func everyKind(c *comettest.Cluster, edge string, channels ...string) (clients []*comettest.Client) {
	for _, p := range []comettest.Profile{
		{Name: "acks", Ack: true},
		{Name: "socket", Transport: comettest.WebSocket},
		{Name: "socket-acks", Transport: comettest.WebSocket, Ack: true},
		{Name: "long-poll", Transport: comettest.LongPoll},
		{Name: "sse", Transport: comettest.SSE},
		{Name: "stream", Transport: comettest.Stream},
		{Name: "ws", Transport: comettest.PlainSocket},
	} {
		p.Name += "-on-" + edge
		p.Edges, p.Channels = []string{edge}, channels
		clients = append(clients, c.Connect(p))
	}
	return clients
}

// mixed connects some clients to an edge: half of them to one literal channel,
// the others to several.
func mixed(c *comettest.Cluster, edge, one string, several ...string) (clients []*comettest.Client) {
	for _, p := range []comettest.Profile{
		{Name: "socket", Transport: comettest.WebSocket, Channels: several},
		{Name: "sse", Transport: comettest.SSE, Channels: []string{one}},
		{Name: "stream", Transport: comettest.Stream, Channels: several},
		{Name: "long-poll", Transport: comettest.LongPoll, Channels: []string{one}},
	} {
		p.Name += "-on-" + edge
		p.Edges = []string{edge}
		clients = append(clients, c.Connect(p))
	}
	return clients
}

// check checks clients that were never cut: Bayeux clients have had one session.
func check(t *testing.T, publishers []*comettest.Publisher, clients ...*comettest.Client) {
	t.Helper()
	for _, client := range clients {
		if err := comettest.Check(client, publishers...); err != nil {
			t.Error(err)
		}
		if n := len(client.Of(comettest.Session)); n > 1 {
			t.Errorf("%s had %d sessions", client.Name, n)
		}
		if len(client.Of(comettest.Event)) == 0 {
			t.Errorf("%s: nothing came", client.Name)
		}
	}
}

// settle stops publishing and waits until everything has arrived.
func settle(t *testing.T, publishers []*comettest.Publisher) {
	t.Helper()
	for _, p := range publishers {
		p.Stop()
		if p.Acked() == 0 {
			t.Errorf("%s: nothing was published", p.Channel)
		}
	}
	time.Sleep(35 * time.Second)
}

// publishTwelve begins to publish to twelve channels below a name.
func publishTwelve(c *comettest.Cluster, below string) (channels []string, publishers []*comettest.Publisher) {
	for i := range 12 {
		channels = append(channels, fmt.Sprintf("%s/%d", below, i))
		publishers = append(publishers, c.Publish("backend", channels[i], 250*time.Millisecond))
	}
	return channels, publishers
}
