package transport

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are what a mesh counts.
type metrics struct {
	streams prometheus.Gauge
	ends    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, m *Mesh) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_broker_replication_queue_bytes", Help: "What waits to be sent to other brokers for replication.",
	}, func() float64 { return float64(m.waiting()) })
	k := &metrics{
		streams: f.NewGauge(prometheus.GaugeOpts{
			Name: "comet_broker_replication_streams", Help: "Brokers with which slots can be replicated now.",
		}),
		ends: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_broker_replication_ends_total", Help: "Replication streams that ended, or were refused, by reason.",
		}, []string{"reason"}),
	}
	for _, why := range reasons() {
		k.ends.WithLabelValues(string(why))
	}
	return k
}
