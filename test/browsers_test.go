package test

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestBrowsers runs one page in Chromium and Firefox: all that browsers have to
// follow a channel, and the reference clients, from another origin.
func TestBrowsers(t *testing.T) {
	needNode(t)
	port := cluster.Ports(t, 1)[0]
	origin := fmt.Sprintf("http://localhost:%d", port)
	p := cluster.Alone(t, "--edge.jsonp", "--edge.heartbeat=1s", "--edge.frame-max-bytes=64KiB", "--edge.allowed-origins="+origin)
	servePage(t, port, p)
	for _, b := range []struct{ name, program string }{{"chrome", "chromium"}, {"firefox", "firefox-esr"}} {
		t.Run(b.program, func(t *testing.T) {
			t.Parallel()
			program, err := exec.LookPath(b.program)
			if err != nil {
				t.Skip(b.program + " is not installed: make test-deps installs it, as root on Debian")
			}
			cmd := exec.Command("node", "clients/browser.mjs", "--browser", b.name, "--executable", program,
				"--page", origin, "--edge", "http://"+p.HTTP, "--rest", "http://"+p.Internal)
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Errorf("scenarios of %s: %v", b.program, err)
			}
		})
	}
}

// servePage serves the page and the libraries it loads, and, as an application
// does that has frames, the edge's channels.
func servePage(t *testing.T, port int, edge *cluster.Process) {
	t.Helper()
	behind := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: edge.HTTP}) },
	}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir("clients/page")))
	mux.Handle("/lib/", http.StripPrefix("/lib/", http.FileServer(http.Dir("clients/node_modules"))))
	mux.Handle("/channels/", behind)
	server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", port), Handler: mux, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- server.ListenAndServe() }()
	t.Cleanup(func() {
		_ = server.Close() // frames are open still
		<-done
	})
}
