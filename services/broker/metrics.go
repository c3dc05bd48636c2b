package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/broker/internal/placement"
	"github.com/comet-push/comet/services/broker/internal/replica"
)

// metrics are what a broker counts. Labels come from closed lists: reasons of
// the contract, reasons of moves, kinds of alarms.
type metrics struct {
	publishes  prometheus.Counter
	deliveries prometheus.Counter
	refused    *prometheus.CounterVec
	committed  prometheus.Histogram
	followers  prometheus.Gauge
	lags       prometheus.Counter
	moves      *prometheus.CounterVec
	handovers  prometheus.Counter
	alarms     *prometheus.CounterVec
	snapshots  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		publishes: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_broker_publishes_total", Help: "Messages committed in slots that this broker leads.",
		}),
		deliveries: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_broker_deliveries_total", Help: "Entries sent to followers.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_broker_refused_total", Help: "Calls and publishes that were refused, by reason.",
		}, []string{"reason"}),
		committed: f.NewHistogram(prometheus.HistogramOpts{
			Name: "comet_broker_publish_to_commit_seconds", Help: "How long a publish took from its arrival at the primary to its commit.",
			Buckets: []float64{1e-5, 1e-4, 3e-4, .001, .003, .01, .03, .1, .3, 1, 3},
		}),
		followers: f.NewGauge(prometheus.GaugeOpts{
			Name: "comet_broker_followers", Help: "Streams that follow slots of this broker.",
		}),
		lags: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_broker_lags_total", Help: "How often a follower had no credit left for a slot.",
		}),
		moves: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_broker_moves_total", Help: "Rows of slots that this broker wrote as the controller, by reason.",
		}, []string{"reason"}),
		handovers: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_broker_handovers_total", Help: "Slots that this broker led and handed over.",
		}),
		snapshots: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_broker_snapshots_total", Help: "Copies that were sent a snapshot, since the log did not reach back to what they had.",
		}),
		alarms: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_broker_alarms_total", Help: "Things that must not happen between the copies of a slot, by kind.",
		}, []string{"kind"}),
	}
	for _, why := range placement.Reasons() {
		m.moves.WithLabelValues(string(why))
	}
	for _, what := range []replica.Trouble{replica.Diverged, replica.Rivals, replica.Unfit, replica.Damaged} {
		m.alarms.WithLabelValues(string(what))
	}
	return m
}

// refuse counts a refusal and returns it; nil is none.
func (m *metrics) refuse(err error) error {
	if err != nil {
		m.refused.WithLabelValues(rpc.ReasonName(rpc.Reason(err))).Inc()
	}
	return err
}

func (m *metrics) refuseReason(r channelv1.ErrorReason) {
	m.refused.WithLabelValues(rpc.ReasonName(r)).Inc()
}

func (m *metrics) moved(why placement.Reason) { m.moves.WithLabelValues(string(why)).Inc() }

func (m *metrics) alarmed(what replica.Trouble) { m.alarms.WithLabelValues(string(what)).Inc() }

func (m *metrics) published(arrived time.Time) {
	m.publishes.Inc()
	m.committed.Observe(time.Since(arrived).Seconds())
}
