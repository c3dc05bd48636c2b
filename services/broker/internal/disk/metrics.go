package disk

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	syncs   prometheus.Histogram
	written prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Store) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_broker_disk_queue_bytes", Help: "What waits to be written to the data directory.",
	}, func() float64 { return float64(s.waiting()) })
	return &metrics{
		syncs: f.NewHistogram(prometheus.HistogramOpts{
			Name: "comet_broker_disk_sync_seconds", Help: "How long it took until the data directory had what was written to it.",
			Buckets: []float64{1e-4, 3e-4, .001, .003, .01, .03, .1, .3, 1, 3},
		}),
		written: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_broker_disk_written_bytes_total", Help: "What was written to the data directory, before the database makes files of it.",
		}),
	}
}
