package broker_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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
		got := map[string]float64{}
		families, err := a.registry.Gather()
		if err != nil {
			t.Fatal(err)
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
		if got["comet_broker_history_bytes"] <= 0 {
			t.Error("the history takes no memory")
		}
		delete(got, "comet_broker_history_bytes")
		if diff := cmp.Diff(map[string]float64{
			"comet_broker_publishes_total":               3,
			"comet_broker_deliveries_total":              3,
			"comet_broker_refused_total CHANNEL_INVALID": 1,
			"comet_broker_publish_to_commit_seconds":     3,
			"comet_broker_slots_owned":                   shard.Slots,
			"comet_broker_followers":                     1,
			"comet_broker_lags_total":                    0,
			"comet_broker_moves_total unassigned":        shard.Slots,
			"comet_broker_moves_total lost":              0,
			"comet_broker_moves_total draining":          0,
			"comet_broker_moves_total balance":           0,
		}, got); diff != "" {
			t.Error(diff)
		}
	})
}
