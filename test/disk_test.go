package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/test/internal/cluster"
)

// acked is what one publisher got acknowledged on its channel: the numbers it
// published, and their positions.
type acked struct {
	channel   string
	numbers   []int
	positions []uint64
}

// publish publishes numbers until one of them fails, or there are enough.
func (a *acked) publish(client pubsubv1.PubSubServiceClient, total *atomic.Int64) {
	for n := range 90 {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		resp, err := client.Publish(ctx, &pubsubv1.PublishRequest{
			Channel: a.channel, Data: []byte(strconv.Itoa(n)), IdempotencyKey: strconv.Itoa(n),
		})
		cancel()
		if err != nil {
			return
		}
		a.numbers, a.positions = append(a.numbers, n), append(a.positions, resp.GetPosition())
		total.Add(1)
	}
}

// check reads what came after the first message, at an edge as a client that
// resumes does, and publishes the last one again.
func (a *acked) check(t *testing.T, edge *cluster.Process, client pubsubv1.PubSubServiceClient) {
	t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://%s/channels%s?transport=poll&since=%d", edge.HTTP, a.channel, a.positions[0]))
	if err != nil {
		t.Fatal(err)
	}
	var batch struct {
		Messages []struct {
			Position uint64
			Data     int
		}
		Resync []string
	}
	if err := errors.Join(json.NewDecoder(resp.Body).Decode(&batch), resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if len(batch.Resync) > 0 {
		t.Errorf("%s: resync", a.channel)
	}
	at := map[int]uint64{}
	for _, m := range batch.Messages {
		if _, twice := at[m.Data]; twice {
			t.Errorf("%s has %d twice", a.channel, m.Data)
		}
		at[m.Data] = m.Position
	}
	for i, n := range a.numbers[1:] {
		if want := a.positions[i+1]; at[n] != want {
			t.Errorf("%s: %d was acknowledged at %d, and is at %d", a.channel, n, want, at[n])
		}
	}
	last := len(a.numbers) - 1
	again, err := client.Publish(t.Context(), &pubsubv1.PublishRequest{
		Channel: a.channel, Data: []byte(strconv.Itoa(a.numbers[last])), IdempotencyKey: strconv.Itoa(a.numbers[last]),
	})
	if err != nil || !again.GetDuplicate() || again.GetPosition() != a.positions[last] {
		t.Errorf("%s: the last one again: %v, %v", a.channel, again, err)
	}
}

// TestKillAllBrokers kills all brokers while messages are published, and starts
// them again: nothing that was acknowledged is lost, and clients go on.
func TestKillAllBrokers(t *testing.T) {
	c := cluster.Durable(t, 1, 3)
	c.Settle(t)
	const publishers = 16
	all := make([]acked, publishers)
	var total atomic.Int64
	var running sync.WaitGroup
	for i := range all {
		all[i].channel = fmt.Sprintf("/disk/%d", i)
		client := pubsub(t, c.Brokers[i%3])
		running.Go(func() { all[i].publish(client, &total) })
	}
	cluster.Eventually(t, time.Minute, "there is load", func() error {
		if n := total.Load(); n < 20*publishers {
			return fmt.Errorf("%d are acknowledged", n)
		}
		return nil
	})
	for _, b := range c.Brokers {
		b.Kill()
	}
	running.Wait()
	t.Logf("%d were acknowledged before the kill", total.Load())
	for _, b := range slices.Backward(c.Brokers) {
		b.Start(t)
	}
	begin := time.Now()
	for _, b := range c.Brokers {
		b.Ready(t, time.Minute)
	}
	for i := range all {
		if len(all[i].numbers) < 2 {
			t.Fatalf("%s has only %d", all[i].channel, len(all[i].numbers))
		}
		cluster.Eventually(t, time.Minute, all[i].channel+" is served again", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := pubsub(t, c.Brokers[0]).History(ctx, &pubsubv1.HistoryRequest{Channel: all[i].channel})
			return err
		})
	}
	t.Logf("all channels were served again after %v", time.Since(begin).Round(time.Millisecond))
	for i := range all {
		all[i].check(t, c.Edges[0], pubsub(t, c.Brokers[i%3]))
	}
}
