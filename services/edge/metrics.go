package edge

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/comet-push/comet/services/edge/internal/hold"
)

// metrics are what an edge counts. Labels come from the contract's reasons and
// the session's reasons to end.
type metrics struct {
	held       prometheus.Gauge
	deliveries prometheus.Counter
	publishes  prometheus.Counter
	refused    *prometheus.CounterVec
	ended      *prometheus.CounterVec
	adopted    *prometheus.CounterVec
	answers    *prometheus.CounterVec
	resyncs    prometheus.Counter
	dropped    *prometheus.CounterVec
	cuts       *prometheus.CounterVec
	socket     prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, sessions, sockets, topics func() int) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_edge_sessions", Help: "Sessions that live on this edge.",
	}, func() float64 { return float64(sessions()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_edge_sockets", Help: "WebSockets of Bayeux clients that are open.",
	}, func() float64 { return float64(sockets()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_edge_channels", Help: "Channels and patterns that sessions of this edge are subscribed to.",
	}, func() float64 { return float64(topics()) })
	return &metrics{
		held: f.NewGauge(prometheus.GaugeOpts{
			Name: "comet_edge_connects_held", Help: "Connects that wait for news.",
		}),
		deliveries: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_edge_deliveries_total", Help: "Events written to clients, copies included.",
		}),
		publishes: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_edge_publishes_total", Help: "Messages of clients that were committed.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_edge_refused_total", Help: "Requests and messages of clients that were refused, by reason.",
		}, []string{"reason"}),
		ended: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_edge_sessions_ended_total", Help: "Sessions that are over, by reason.",
		}, []string{"reason"}),
		adopted: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_edge_sessions_adopted_total", Help: "Sessions that came here from another edge: taken from it, or from what was recorded.",
		}, []string{"from"}),
		answers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_edge_answers_recorded_total", Help: "Answers with events of sessions with the ack extension, by whether presence kept in time what they bring.",
		}, []string{"outcome"}),
		resyncs: f.NewCounter(prometheus.CounterOpts{
			Name: "comet_edge_resyncs_total", Help: "Times a session was to be told that a subscription lost messages upstream.",
		}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_edge_dropped_total", Help: "Events dropped because a session was too slow for them, by reason.",
		}, []string{"reason"}),
		cuts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "comet_edge_cuts_total", Help: "Connections that were cut, or found cut, in the middle of something, by reason.",
		}, []string{"reason"}),
		socket: f.NewHistogram(prometheus.HistogramOpts{
			Name: "comet_edge_commit_to_socket_seconds", Help: "How long the newest event of an answer took from its commit to the socket.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30},
		}),
	}
}

// showDrain shows how far the drain is.
func showDrain(reg prometheus.Registerer, s *Service) {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_edge_drain_state", Help: "Whether this edge serves (0), sends its clients away (1), or is drained (2).",
	}, func() float64 { return float64(s.drainState()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "comet_edge_drain_waiting", Help: "Clients of an edge that drains whose turn has not come yet.",
	}, func() float64 { return float64(s.progress().GetWaiting()) })
}

// showConnections shows what the engine's connections are doing.
func showConnections(reg prometheus.Registerer, counts func() hold.Counts) {
	f := promauto.With(reg)
	for state, count := range map[string]func(hold.Counts) int{
		"idle":     func(c hold.Counts) int { return c.Idle },
		"serving":  func(c hold.Counts) int { return c.Serving },
		"exchange": func(c hold.Counts) int { return c.Exchanges },
		"stream":   func(c hold.Counts) int { return c.Streams },
		"socket":   func(c hold.Counts) int { return c.Sockets },
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "comet_edge_connections", Help: "TCP connections of the engine, by what they are doing.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(count(counts())) })
	}
}
