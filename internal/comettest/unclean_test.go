package comettest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// uncleanAfter is --broker.unclean-after here.
const uncleanAfter = 24 * time.Second

// TestUnclean silences a broker that is alone in sync. Its slots start anew
// after --broker.unclean-after, and not before; it stops by itself at half of
// that, and brings nothing back when it comes back.
func TestUnclean(t *testing.T) {
	playAll(t, []scenario{{
		name: "silence", ci: true, do: silence,
		configure: func(_ string, cfg *config.Config) { cfg.Broker.UncleanAfter = config.OrNever(uncleanAfter) },
	}})
}

func silence(w *world) {
	const channel = "/calm/0"
	n := shard.Of(channel)
	old, backup := w.primary(channel), w.backup(channel)
	w.Net.Partition(old, backup)
	time.Sleep(5 * time.Second)
	before := w.audit.Row(channel)
	if len(before.InSync) != 1 || nameOf(before.Primary) != old {
		w.t.Fatalf("%s is not alone: %+v", old, before)
	}
	for _, other := range w.others(old) {
		w.Net.Partition(old, other)
	}
	d := w.Node(old).Directory
	d.Disconnect(true)
	w.audit.GivenUp(w.Node(old))
	cut := time.Now()
	door := w.at(old)

	time.Sleep(uncleanAfter/2 - 3*time.Second)
	if _, err := door.publish(time.Second); err != nil {
		w.t.Errorf("%s may acknowledge for %v, and refused: %v", old, uncleanAfter/2, err)
	}
	time.Sleep(4 * time.Second)
	if at, err := door.publish(20 * time.Second); rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_ISOLATED {
		w.t.Errorf("after %v %s answered %d, %v", time.Since(cut), old, at, err)
	}
	time.Sleep(time.Until(cut.Add(uncleanAfter)))
	if anew := w.audit.Anew(); len(anew) > 0 {
		w.t.Errorf("%d slots began anew too early", len(anew))
	}
	time.Sleep(lease + 2*time.Second)
	after := w.audit.Row(channel)
	if len(w.audit.Anew()[n]) != 1 || after.Base <= before.Base || nameOf(after.Primary) == old {
		w.t.Fatalf("%+v did not begin anew: %+v", before, after)
	}

	// It has a lease again before it hears of what happened meanwhile.
	d.Slow(time.Second)
	d.Disconnect(false)
	for range 30 {
		time.Sleep(50 * time.Millisecond)
		if at, err := door.publish(100 * time.Millisecond); err == nil && at <= after.Base {
			w.t.Errorf("%s acknowledged %d in a log that was given up", old, at)
		}
	}
	w.Calm()
	time.Sleep(20 * time.Second)
	if row := w.audit.Row(channel); row.Base != after.Base {
		w.t.Errorf("%+v became %+v when %s came back", after, row, old)
	}
}

// door publishes to a calm slot at one broker.
type door struct {
	pubsubv1.PubSubServiceClient

	channel string
}

func (w *world) at(broker string) door {
	w.t.Helper()
	for i, name := range w.names() {
		if name == broker {
			return door{w.Backend("door")[i], beside("/calm/0")}
		}
	}
	w.t.Fatalf("no broker %s", broker)
	return door{}
}

// beside is a channel in the slot of another to which nobody else publishes.
func beside(channel string) string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("/beside/%d", i); shard.Of(name) == shard.Of(channel) {
			return name
		}
	}
}

func (d door) publish(within time.Duration) (position uint64, err error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), within, errors.New("too slow"))
	defer cancel()
	resp, err := d.Publish(ctx, &pubsubv1.PublishRequest{Channel: d.channel, Data: []byte(`"beside"`)})
	return resp.GetPosition(), err
}
