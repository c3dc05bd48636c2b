package edge

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/comet-push/comet/services/edge/internal/plain"
)

// plainMetrics are what is counted of requests that read plain channels. Labels
// come from the machine's reasons to end.
type plainMetrics struct {
	ended *prometheus.CounterVec
}

func newPlainMetrics(reg prometheus.Registerer, readers func() int64) plainMetrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_edge_readers", Help: "Requests that read plain channels and are not over.",
	}, func() float64 { return float64(readers()) })
	return plainMetrics{
		ended: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_edge_readers_ended_total", Help: "Requests that read plain channels and are over, by reason.",
		}, []string{"reason"}),
	}
}

func (d *plainDoor) ended(reason plain.Reason) { d.counts.ended.WithLabelValues(string(reason)).Inc() }

// droppedOf counts events that a reader dropped as those that a session drops.
func (d *plainDoor) droppedOf(n *plain.Dropped) {
	if *n == (plain.Dropped{}) {
		return
	}
	for _, each := range [...]struct {
		reason string
		n      int
	}{{"oldest", n.Oldest}, {"conflated", n.Conflated}, {"age", n.Age}, {"resync", n.Resync}, {"overflow", n.Ended}} {
		if each.n > 0 {
			d.metrics.dropped.WithLabelValues(each.reason).Add(float64(each.n))
		}
	}
}
