package telemetry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Catalogue is a registry that also writes down what is registered, for the
// list of metrics that dashboards may rely on.
type Catalogue struct {
	*prometheus.Registry

	mu    sync.Mutex
	lines []string
}

// Register implements [prometheus.Registerer].
func (c *Catalogue) Register(m prometheus.Collector) error {
	if err := c.Registry.Register(m); err != nil {
		return err
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		m.Describe(descs)
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	for d := range descs {
		name, labels := parts(d)
		c.lines = append(c.lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", name, kind(m, name), labels)))
	}
	return nil
}

// MustRegister implements [prometheus.Registerer].
func (c *Catalogue) MustRegister(ms ...prometheus.Collector) {
	for _, m := range ms {
		if err := c.Register(m); err != nil {
			panic(err) // as its contract has it
		}
	}
}

// Lines are the metrics by name, each as "name type label,label".
func (c *Catalogue) Lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := slices.Sorted(slices.Values(c.lines))
	return slices.Compact(lines)
}

// parts reads name and labels out of a description, which has them nowhere
// else.
func parts(d *prometheus.Desc) (name, labels string) {
	m := regexp.MustCompile(`fqName: "([^"]*)".*variableLabels: {([^}]*)}`).FindStringSubmatch(d.String())
	if m == nil {
		return d.String(), ""
	}
	return m[1], m[2]
}

// kind is the type of a metric: that of its first sample, or, for vectors that
// have none yet, what the Go type says.
func kind(m prometheus.Collector, name string) string {
	alone := prometheus.NewRegistry()
	if err := alone.Register(m); err == nil {
		if families, err := alone.Gather(); err == nil {
			for _, f := range families {
				if f.GetName() == name {
					return strings.ToLower(f.GetType().String())
				}
			}
		}
	}
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", m), "*prometheus."), "Vec"))
}
