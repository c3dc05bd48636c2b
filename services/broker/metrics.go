package broker

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/broker/internal/placement"
)

// metrics are what a broker counts. Labels come from closed lists: reasons of
// the contract, reasons of moves.
type metrics struct {
	publishes  prometheus.Counter
	deliveries prometheus.Counter
	refused    *prometheus.CounterVec
	committed  prometheus.Histogram
	followers  prometheus.Gauge
	lags       prometheus.Counter
	moves      *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, o *ownership) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_broker_slots_owned", Help: "Slots this broker is the primary of.",
	}, func() float64 { return float64(o.serving()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_broker_history_bytes", Help: "Memory that the retained entries of owned slots take.",
	}, func() float64 { return float64(o.bytes()) })
	m := &metrics{
		publishes: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_broker_publishes_total", Help: "Messages appended to owned slots.",
		}),
		deliveries: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_broker_deliveries_total", Help: "Entries sent to followers.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_broker_refused_total", Help: "Calls and publishes that were refused, by reason.",
		}, []string{"reason"}),
		committed: f.NewHistogram(prometheus.HistogramOpts{
			Name: "comet_broker_publish_to_commit_seconds", Help: "How long a publish took from its arrival at the primary to its commit.",
			Buckets: []float64{1e-6, 1e-5, 1e-4, .001, .01, .1, 1},
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
	}
	for _, why := range placement.Reasons() {
		m.moves.WithLabelValues(string(why))
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
