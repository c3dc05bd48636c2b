package httpd

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/comet-push/comet/gen"
)

// InternalConfig says what the internal door shows.
type InternalConfig struct {
	// Gateway is the REST door.
	Gateway http.Handler
	// Metrics are shown at /metrics.
	Metrics prometheus.Gatherer
	// Ready returns what is not ready, by the name of the part; /readyz is 200
	// when nothing is.
	Ready func() map[string]error
	// RefusePages refuses what scripts of web pages send: for a door that is
	// open on a machine where somebody browses.
	RefusePages bool
}

// Internal is the handler of the internal door: REST, OpenAPI, metrics, health
// and profiles. It is for backends and operators, not for browsers.
func Internal(cfg InternalConfig) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/", cfg.Gateway)
	mux.HandleFunc("GET /v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(gen.OpenAPI) // whoever asked is gone
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		code, report := readiness(cfg.Ready())
		text(w, code, report)
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	if cfg.RefusePages {
		return notForPages(mux)
	}
	return mux
}

func text(w http.ResponseWriter, code int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(s)) // whoever asked is gone
}

// readiness is one line for each part that is not ready.
func readiness(parts map[string]error) (code int, report string) {
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if err := parts[name]; err != nil {
			report += fmt.Sprintf("%s: %v\n", name, err)
		}
	}
	if report != "" {
		return http.StatusServiceUnavailable, "not ready\n" + report
	}
	return http.StatusOK, "ready\n"
}
