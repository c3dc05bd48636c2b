package presence

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/comet-push/comet/services/presence/internal/holder"
)

// The kinds of changes.
const (
	present      = "present"
	subscribed   = "subscribed"
	resumed      = "resumed"
	unsubscribed = "unsubscribed"
	gone         = "gone"
)

// metrics are what presence counts.
type metrics struct {
	changes *prometheus.CounterVec
	ended   *prometheus.CounterVec
	slow    prometheus.Counter
	// mismatches are shards of which an edge has something else.
	mismatches prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, value func(*holder.Holder) int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(value(s.holder))
		})
	}
	gauge("comet_presence_sessions", "Sessions whose records this process holds.", (*holder.Holder).Sessions)
	gauge("comet_presence_edges", "Edges that report.", (*holder.Holder).Edges)
	gauge("comet_presence_watchers", "Callers that watch a roster.", (*holder.Holder).Watches)
	m := &metrics{
		changes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_presence_changes_total", Help: "Changes of sessions that edges reported, by kind.",
		}, []string{"kind"}),
		ended: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_presence_ended_total", Help: "Sessions that ended: told by their edge, lost because nobody adopted them in time, or not named by their edge any more.",
		}, []string{"how"}),
		mismatches: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_presence_mismatches_total", Help: "Times an edge had other sessions of a shard than were known, which were then sent again.",
		}),
		slow: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_presence_slow_watchers_total", Help: "Watches that were ended because they fell behind.",
		}),
	}
	for _, kind := range []string{present, resumed, subscribed, unsubscribed, gone} {
		m.changes.WithLabelValues(kind)
	}
	for _, how := range []string{told, holder.Lost, holder.Vanished} {
		m.ended.WithLabelValues(how)
	}
	return m
}

// told is how most sessions end: their edge says so.
const told = "told"

// end counts the end of a session.
func (m *metrics) end(reason string) {
	if reason != holder.Lost && reason != holder.Vanished {
		reason = told
	}
	m.ended.WithLabelValues(reason).Inc()
}
