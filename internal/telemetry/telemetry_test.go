package telemetry_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/comet-push/comet/internal/telemetry"
)

func TestLogger(t *testing.T) {
	for _, tt := range []struct{ format, level, want, wantErr string }{
		{"text", "info", `level=WARN msg=hello`, ""},
		{"json", "info", `"level":"WARN","msg":"hello"`, ""},
		{"json", "error", ``, ""},
		{"xml", "info", "", `log format "xml" is not one of text, json`},
		{"json", "loud", "", `log level "loud" is not one of debug, info, warn, error`},
	} {
		var out strings.Builder
		logger, err := telemetry.Logger(&out, tt.format, tt.level)
		if err != nil {
			if err.Error() != tt.wantErr {
				t.Errorf("%v: %v", tt, err)
			}
			continue
		}
		logger.Warn("hello")
		if !strings.Contains(out.String(), tt.want) || (tt.want == "") != (out.Len() == 0) {
			t.Errorf("%v: wrote %q", tt, out.String())
		}
	}
}

func TestCatalogue(t *testing.T) {
	c := &telemetry.Catalogue{Registry: telemetry.Registry("v1")}
	f := promauto.With(c)
	f.NewCounterVec(prometheus.CounterOpts{Name: "comet_hits_total", Help: "b"}, []string{"b", "a"})
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "comet_a", Help: "a"}, func() float64 { return 1 })
	f.NewHistogramVec(prometheus.HistogramOpts{Name: "comet_c_seconds", Help: "c"}, []string{"x"}).WithLabelValues("1")
	want := []string{"comet_a gauge", "comet_c_seconds histogram x", "comet_hits_total counter b,a"}
	if got := c.Lines(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
