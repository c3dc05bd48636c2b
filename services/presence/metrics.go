package presence

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/comet-push/comet/services/presence/internal/roster"
)

// The kinds of changes.
const (
	present      = "present"
	subscribed   = "subscribed"
	unsubscribed = "unsubscribed"
	gone         = "gone"
)

// metrics are what presence counts.
type metrics struct {
	changes *prometheus.CounterVec
	lost    prometheus.Counter
	slow    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, value func(*roster.Roster) int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(value(s.roster))
		})
	}
	gauge("comet_presence_sessions", "Sessions of all edges.", (*roster.Roster).Sessions)
	gauge("comet_presence_edges", "Edges that report, or did a grace ago.", (*roster.Roster).Edges)
	gauge("comet_presence_watchers", "Callers that watch a roster.", (*roster.Roster).Watches)
	m := &metrics{
		changes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_presence_changes_total", Help: "Changes of sessions that edges reported, by kind.",
		}, []string{"kind"}),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_presence_edges_lost_total", Help: "Edges that were forgotten, with their sessions, after their streams ended.",
		}),
		slow: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_presence_slow_watchers_total", Help: "Watches that were ended because they fell behind.",
		}),
	}
	for _, kind := range []string{present, subscribed, unsubscribed, gone} {
		m.changes.WithLabelValues(kind)
	}
	return m
}
