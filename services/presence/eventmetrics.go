package presence

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/comet-push/comet/services/presence/internal/outbox"
)

// The outcomes of a request to the webhook.
const (
	delivered = "delivered" // answered 2xx
	refused   = "refused"   // answered otherwise
	failed    = "failed"    // not answered
)

// eventMetrics are what is counted of events.
type eventMetrics struct {
	ends, leaves prometheus.Counter
	lost         prometheus.Counter
	deliveries   *prometheus.CounterVec
	gaps         prometheus.Counter
}

func newEventMetrics(reg prometheus.Registerer, e *events) *eventMetrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_presence_events_waiting", Help: "Events of sessions that are not known to be published.",
	}, func() float64 { return float64(e.waiting()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_presence_event_watchers", Help: "Callers that watch events of sessions.",
	}, func() float64 { return float64(e.watches.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_presence_webhook_lag_seconds", Help: "How old the oldest event is that this process has yet to tell the webhook.",
	}, func() float64 { return e.webhook.lag() })
	published := f.NewCounterVec(prometheus.CounterOpts{
		Name: "comet_presence_events_published_total", Help: "Events of sessions that this process published, by kind.",
	}, []string{"kind"})
	m := &eventMetrics{
		ends: published.WithLabelValues("disconnected"), leaves: published.WithLabelValues("left"),
		lost: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_presence_events_lost_total", Help: "Events of sessions that were given up because brokers did not take them.",
		}),
		deliveries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_presence_webhook_deliveries_total", Help: "Requests to the webhook, by outcome.",
		}, []string{"outcome"}),
		gaps: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_presence_webhook_gaps_total", Help: "Times events were no longer retained when it was the webhook's turn.",
		}),
	}
	for _, outcome := range []string{delivered, refused, failed} {
		m.deliveries.WithLabelValues(outcome)
	}
	return m
}

// published counts an event that was.
func (m *eventMetrics) published(e *outbox.Event) {
	if e.Left == nil {
		m.ends.Inc()
	} else {
		m.leaves.Inc()
	}
}
