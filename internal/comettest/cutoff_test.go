package comettest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/comettest"
)

// TestCutOffFromTheStore cuts a broker and an edge off from the store, and from
// nothing else, while the broker's slots go to others: whoever
// publishes through the broker waits no longer than elsewhere, and who reads at
// the edge misses nothing.
func TestCutOffFromTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Edges: 2, Brokers: 3, Presence: 1})
		c.Balanced(time.Minute)
		var publishers []*comettest.Publisher
		var channels []string
		for i := range 4 {
			channels = append(channels, fmt.Sprintf("/cut/%d", i))
			publishers = append(publishers, c.Publish("backend", channels[i], 200*time.Millisecond))
		}
		clients := []*comettest.Client{
			c.Client("at-0", "edge-0", channels...), c.Client("at-1", "edge-1", channels...),
		}
		time.Sleep(5 * time.Second)
		for _, name := range []string{"broker-0", "edge-0"} {
			c.Node(name).Directory.Disconnect(true)
		}
		time.Sleep(15 * time.Second)
		door := c.Backend("backend")[0]
		for i := range 16 { // of as many slots
			if err := publishWithin(door, fmt.Sprintf("/aside/%d", i), time.Second); err != nil {
				t.Errorf("through the broker that is cut off: %v", err)
			}
		}
		time.Sleep(10 * time.Second)
		for _, name := range []string{"broker-0", "edge-0"} {
			c.Node(name).Directory.Disconnect(false)
		}
		time.Sleep(5 * time.Second)
		settle(t, publishers)
		for _, client := range clients {
			if err := comettest.Check(client, publishers...); err != nil {
				t.Error(err)
			}
			if n := len(client.Of(comettest.Resync)); n > 0 {
				t.Errorf("%s was told of %d losses", client.Name, n)
			}
		}
		for _, p := range publishers {
			if most := 6 * time.Second; p.Slowest() > most {
				t.Errorf("a publish to %s waited %v", p.Channel, p.Slowest())
			}
		}
	})
}

func publishWithin(door pubsubv1.PubSubServiceClient, channel string, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), within, errors.New("too slow"))
	defer cancel()
	_, err := door.Publish(ctx, &pubsubv1.PublishRequest{Channel: channel, Data: []byte(`"aside"`)})
	if err != nil {
		return fmt.Errorf("publish to %s: %w", channel, err)
	}
	return nil
}
