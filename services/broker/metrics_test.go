package broker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t).start("a")
		s := a.subscribe("", "/m")
		for range 3 {
			a.publish("/m", "1")
		}
		s.wantSet(3)
		if e := a.attach("", "/meta/x").next(time.Second); e != nil {
			t.Errorf("got %v, want an error", e)
		}
		got := a.counted()
		if got["comet_broker_history_bytes"] <= 0 {
			t.Error("the history takes no memory")
		}
		delete(got, "comet_broker_history_bytes")
		for name, want := range map[string]float64{
			"comet_broker_publishes_total":               3,
			"comet_broker_deliveries_total":              3,
			"comet_broker_refused_total CHANNEL_INVALID": 1,
			"comet_broker_publish_to_commit_seconds":     3,
			"comet_broker_followers":                     1,
			"comet_broker_moves_total unassigned":        shard.Slots,
			"comet_broker_slots primary":                 shard.Slots,
			"comet_broker_slots_in_sync 1":               shard.Slots,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
			delete(got, name)
		}
		for name, n := range got {
			if n != 0 {
				t.Errorf("%s is %v, want 0", name, n)
			}
		}
	})
}

// TestMetricsOfCopies cuts a backup off: what it holds no longer counts, and
// what waits for it is shown.
func TestMetricsOfCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.config.Replicas, c.config.MinInSync = 2, 2
		a, b := c.start("a"), c.start("b")
		c.settled(a, b)
		channel := channelOf(a)
		a.publish(channel, "1")
		for name, want := range map[string]float64{
			"comet_broker_slots primary":             shard.Slots / 2,
			"comet_broker_slots backup":              shard.Slots / 2,
			"comet_broker_slots_in_sync 2":           shard.Slots / 2,
			"comet_broker_slots_under_replicated":    0,
			"comet_broker_uncommitted_bytes":         0,
			"comet_broker_publish_to_commit_seconds": 1,
			"comet_broker_handovers_total":           shard.Slots / 2,
			"comet_broker_replication_streams":       1,
		} {
			if got := a.counted()[name]; got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		b.kill()
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := a.pubsub.Publish(ctx, &pubsubv1.PublishRequest{Channel: channel, Data: []byte("2")})
		if got := a.counted()["comet_broker_uncommitted_bytes"]; err == nil || got == 0 {
			t.Errorf("%v uncommitted bytes, %v", got, err)
		}
		time.Sleep(10 * time.Second)
		for name, want := range map[string]float64{
			"comet_broker_slots primary":     shard.Slots,
			"comet_broker_slots_in_sync 1":   shard.Slots,
			"comet_broker_slots_in_sync 2":   0,
			"comet_broker_uncommitted_bytes": 0, // it is in sync with itself
		} {
			if got := a.counted()[name]; got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		_, err = a.pubsub.Publish(t.Context(), &pubsubv1.PublishRequest{Channel: channel, Data: []byte("3")})
		if rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_UNDER_REPLICATED {
			t.Errorf("with one copy of two: %v", err)
		}
	})
}

// counted are the metrics of a broker, by name and label.
func (m *member) counted() map[string]float64 {
	m.t.Helper()
	got := map[string]float64{}
	families, err := m.registry.Gather()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "comet_broker_") {
			continue
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return got
}
