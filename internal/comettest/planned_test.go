package comettest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comet-push/comet/internal/comettest"
)

// TestPlannedMovesAreShort restarts a broker beside a store that changes
// 250 rows in a second, one after the other: no publish waits longer than 250 ms
// for slots to be handed over, and to be brought back.
func TestPlannedMovesAreShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Brokers: 3})
		c.Balanced(time.Minute)
		c.Store.Labour(4 * time.Millisecond)
		slow := func(broker string) { c.Node(broker).Directory.Slow(5 * time.Millisecond) }
		brokers := []string{"broker-0", "broker-1", "broker-2"}
		for i, b := range brokers {
			slow(b)
			c.Net.Delay(b, brokers[(i+1)%len(brokers)], time.Millisecond)
		}
		var publishers []*comettest.Publisher
		for i := range 32 {
			publishers = append(publishers, c.PublishAs(comettest.Publishing{
				Channel: fmt.Sprintf("/planned/%d", i), Every: 50 * time.Millisecond,
				Manner: []comettest.Manner{comettest.Keyed, comettest.Streamed}[i%2],
			}))
		}
		for _, b := range brokers[:1] {
			time.Sleep(3 * time.Second)
			c.Stop(b)
			time.Sleep(3 * time.Second)
			c.Start(b)
			slow(b)
			c.Ready(time.Minute)
			c.Balanced(time.Minute)
		}
		settle(t, publishers)
		for _, p := range publishers {
			if slowest := p.Slowest(); slowest > 250*time.Millisecond {
				t.Errorf("%s, %s: a publish waited %v", p.Channel, p.Manner, slowest)
			}
		}
	})
}
