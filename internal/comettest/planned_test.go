package comettest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
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
		for i := range 16 {
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

// TestReadsDuringPlannedMoves restarts a broker. Reads at the others wait for
// slots to be handed over, but not for a heartbeat.
func TestReadsDuringPlannedMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := comettest.New(t, comettest.Options{Brokers: 3})
		c.Balanced(time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		reader := c.Backend("reader")[1]
		var reading sync.WaitGroup
		for i := range 16 {
			channel := fmt.Sprintf("/planned/%d", i)
			if _, err := reader.Publish(ctx, &pubsubv1.PublishRequest{Channel: channel, Data: []byte("1")}); err != nil {
				t.Fatal(err)
			}
			reading.Go(func() {
				for ctx.Err() == nil {
					began := time.Now()
					_, err := reader.History(ctx, &pubsubv1.HistoryRequest{Channel: channel, Limit: 1})
					if took := time.Since(began); ctx.Err() == nil && (err != nil || took > 20*time.Millisecond) {
						t.Errorf("%s: a read took %v at %v: %v", channel, took, began.Format("05.000"), err)
					}
					time.Sleep(17 * time.Millisecond)
				}
			})
		}
		time.Sleep(3 * time.Second)
		c.Stop("broker-0")
		time.Sleep(3 * time.Second)
		c.Start("broker-0")
		c.Ready(time.Minute)
		c.Balanced(time.Minute)
		stop()
		reading.Wait()
	})
}
