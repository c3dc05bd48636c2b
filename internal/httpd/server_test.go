package httpd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/test/bufconn"

	"github.com/comet-push/comet/internal/httpd"
	"github.com/comet-push/comet/internal/run"
)

// start runs a server over memory and returns a client and how to drain it.
func start(t *testing.T, cfg httpd.ServerConfig, h http.Handler) (client *http.Client, drain func(), done chan error) {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	ctx, cancel := context.WithCancelCause(t.Context())
	done = make(chan error, 1)
	go func() { done <- httpd.NewServer(cfg, h, l).Run(ctx) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) }}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, func() { cancel(run.ErrDraining) }, done
}

func TestServerAnswersHeldRequestsWhenItDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, drain, done := start(t, httpd.ServerConfig{Grace: time.Minute}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			_, _ = io.WriteString(w, context.Cause(r.Context()).Error())
		}))
		time.AfterFunc(time.Hour, drain) // nothing limits how long a request is held
		resp, err := client.Get("http://x/")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil || string(text) != "draining" {
			t.Errorf("got %q, %v", text, err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestServerInsists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		client, drain, done := start(t, httpd.ServerConfig{Grace: 5 * time.Second}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			<-release
		}))
		begin := time.Now()
		time.AfterFunc(time.Second, drain)
		if _, err := client.Get("http://x/"); err == nil {
			t.Error("want a cut connection")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took < 6*time.Second || took > 7*time.Second {
			t.Errorf("took %v", took)
		}
		close(release)
	})
}

func TestServerFailsWithItsListener(t *testing.T) {
	l := bufconn.Listen(1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	err := httpd.NewServer(httpd.ServerConfig{}, http.NotFoundHandler(), l).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "serve HTTP") {
		t.Errorf("err = %v", err)
	}
}

func TestInternal(t *testing.T) {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "comet_test", Help: "A test's."}, func() float64 { return 7 }))
	parts := map[string]error{"edge": nil, "broker": errors.New("no owner for 3 slots"), "alpha": errors.New("x")}
	door := httptest.NewServer(httpd.Internal(httpd.InternalConfig{
		Gateway: http.NotFoundHandler(), Metrics: metrics, Ready: func() map[string]error { return parts },
	}))
	defer door.Close()
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"/livez", 200, "ok"},
		{"/readyz", 503, "not ready\nalpha: x\nbroker: no owner for 3 slots\n"},
		{"/metrics", 200, "comet_test 7"},
		{"/v1/openapi.json", 200, `"swagger": "2.0"`},
		{"/debug/pprof/", 200, "goroutine"},
		{"/", 404, ""},
	} {
		if status, _, text := ask(t, "GET", door.URL+tt.path, "", ""); status != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s: got %d %s", tt.path, status, text)
		}
	}
	clear(parts)
	if status, _, text := ask(t, "GET", door.URL+"/readyz", "", ""); status != 200 || text != "ready\n" {
		t.Errorf("got %d %s", status, text)
	}
}

func TestInternalRefusesPages(t *testing.T) {
	door := httpd.Internal(httpd.InternalConfig{
		Gateway: http.NotFoundHandler(), Metrics: prometheus.NewRegistry(), RefusePages: true,
		Ready: func() map[string]error { return nil },
	})
	for _, tt := range []struct {
		name, header, value string
		want                int
	}{
		{"a program", "User-Agent", "curl/8", http.StatusOK},
		{"an address typed in", "Sec-Fetch-Mode", "navigate", http.StatusOK},
		{"a script of any page", "Origin", "http://rebound.example", http.StatusForbidden},
		{"a script that reads from what it takes for its own host", "Sec-Fetch-Mode", "cors", http.StatusForbidden},
		{"a picture", "Sec-Fetch-Mode", "no-cors", http.StatusForbidden},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/readyz", http.NoBody)
			r.Header.Set(tt.header, tt.value)
			w := httptest.NewRecorder()
			door.ServeHTTP(w, r)
			if w.Code != tt.want || w.Code != http.StatusOK && !strings.Contains(w.Body.String(), "ORIGIN_DENIED") {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}
