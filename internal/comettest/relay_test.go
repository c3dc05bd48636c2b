package comettest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
)

// TestRoaming has clients that send every request to another edge: they have
// one session all the time, and are told everything once.
func TestRoaming(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 3, Brokers: 1, Presence: 1})
		clients := roamers(c)
		publishers := []*comettest.Publisher{
			c.PublishAs(comettest.Publishing{Channel: "/busy/a", Every: 120 * time.Millisecond, Manner: comettest.Keyed}),
			c.PublishAs(comettest.Publishing{Channel: "/calm/a", Every: 11 * time.Second, Manner: comettest.Streamed}),
		}
		time.Sleep(3 * time.Minute)
		settle(t, publishers)
		for _, client := range clients {
			if err := comettest.Check(client, publishers...); err != nil {
				t.Error(err)
			}
			if n := len(client.Of(comettest.Session)); n != 1 {
				t.Errorf("%s had %d sessions, want one", client.Name, n)
			}
			if cuts := client.Of(comettest.Cut); len(cuts) > 0 {
				t.Errorf("%s: %d requests were not answered", client.Name, len(cuts))
			}
		}
	})
}

func roamers(c *comettest.Cluster) (clients []*comettest.Client) {
	for i := range 6 {
		clients = append(clients, c.Connect(comettest.Profile{
			Name: fmt.Sprintf("roamer-%d", i), Roams: true, Ack: i%2 == 1,
			Edges: []string{"edge-0", "edge-1", "edge-2"}, Channels: []string{"/busy/*", "/calm/a"},
		}))
	}
	return clients
}

// TestFrontDies crashes an edge that is nobody's home: the sessions stay where
// they are, and nobody loses anything.
func TestFrontDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 3, Brokers: 1, Presence: 1})
		clients := roamers(c) // all begin at edge-0
		publishers := []*comettest.Publisher{
			c.PublishAs(comettest.Publishing{Channel: "/busy/a", Every: 300 * time.Millisecond, Manner: comettest.Keyed}),
			c.PublishAs(comettest.Publishing{Channel: "/calm/a", Every: 7 * time.Second, Manner: comettest.Keyed}),
		}
		time.Sleep(10 * time.Second)
		c.Crash("edge-1")
		time.Sleep(30 * time.Second)
		settle(t, publishers)
		for _, client := range clients {
			if err := comettest.Check(client, publishers...); err != nil {
				t.Error(err)
			}
			if n := len(client.Of(comettest.Session)); n != 1 {
				t.Errorf("%s had %d sessions, want one", client.Name, n)
			}
		}
	})
}
