package comettest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
)

// TestPresenceShards kills and restarts presence processes: shards without
// holders get others soon, and all hold as many in the end.
func TestPresenceShards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lease = 2 * time.Second // of the cluster's store
		c := comettest.New(t, comettest.Options{Brokers: 2, Presence: 3})
		c.HeldEvenly(2 * time.Minute)

		c.Crash("presence-1")
		begin := time.Now()
		c.Held(lease + 4*time.Second) // its lease has to run out first, and the controller to look
		t.Logf("held after %v", time.Since(begin))
		synctest.Wait() // for brokers to see it, too
		for _, broker := range []string{"broker-0", "broker-1"} {
			if n := c.Value(broker, "comet_broker_presence_shards_without_holder"); n != 0 {
				t.Errorf("%s: %v presence shards are without a holder", broker, n)
			}
		}
		time.Sleep(5 * time.Second)
		c.Start("presence-1")
		c.HeldEvenly(2 * time.Minute)

		c.Restart("presence-2")
		c.HeldEvenly(2 * time.Minute)

		c.Crash("presence-0")
		c.Crash("presence-1")
		c.Held(lease + 4*time.Second)
		synctest.Wait() // for brokers to see it, too
		if n := c.Value("broker-0", "comet_broker_presence_shards_without_holder"); n != 256 {
			t.Errorf("with one process left %v presence shards lack a holder, want 256 of which the second is not there", n)
		}
		c.Start("presence-0")
		c.Start("presence-1")
		c.HeldEvenly(2 * time.Minute)
	})
}
