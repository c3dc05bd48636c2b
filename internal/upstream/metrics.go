package upstream

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are shared by all publishers and followers of one registry.
type metrics struct {
	reconnects prometheus.Counter
	lags       prometheus.Counter
	resyncs    prometheus.Counter
	resent     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	return metrics{
		reconnects: counter(reg, "comet_upstream_reconnects_total", "Streams to brokers that broke or fell silent."),
		lags:       counter(reg, "comet_upstream_lags_total", "Times a broker stopped pushing a slot because this node took too long."),
		resyncs:    counter(reg, "comet_upstream_resyncs_total", "Slots of which entries were lost to this node, and said so."),
		resent:     counter(reg, "comet_upstream_resent_total", "Publishes sent again because their first answer did not come."),
	}
}

// counter returns the registry's counter of that name: a process has many
// followers.
func counter(reg prometheus.Registerer, name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	if reg == nil {
		return c
	}
	var known prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &known) {
		if existing, ok := known.ExistingCollector.(prometheus.Counter); ok {
			return existing
		}
	}
	return c
}
