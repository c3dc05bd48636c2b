// Package conformance holds every transport to the same scenarios, on real
// sockets: delivery, order, resume, resync, heartbeat, slow reader, vanishing
// client and drain, through HTTP/1.1, HTTP/2, TLS, nginx and HAProxy, against
// one process and against the services apart.
//
// Without CONFORMANCE=full each scenario runs once per transport over HTTP/1.1
// against one process; delivery, resume and drain also through the proxies, over
// HTTP/2 and against the services apart.
package conformance

import (
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
)

// TestMain lets more tests run at once than there are cores: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// patience is how long anything may take that should take no time.
const patience = time.Minute

// scenario is one thing that holds for every transport.
type scenario struct {
	name string
	run  func(t *testing.T, s *site, tr client.Transport)
}

func scenarios() []scenario {
	return []scenario{
		{"delivery", delivery},
		{"order", order},
		{"resume", resume},
		{"resync", resync},
		{"heartbeat", heartbeat},
		{"slow", slow},
		{"vanish", vanish},
	}
}

func TestConformance(t *testing.T) {
	for _, topology := range []string{"alone", "split"} {
		t.Run(topology, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, topology)
			for _, way := range ways() {
				if !wanted(topology, way, "delivery") {
					continue
				}
				t.Run(way, func(t *testing.T) {
					s := w.site(t, way)
					t.Run("scenarios", func(t *testing.T) { runScenarios(t, s, topology, way) })
					t.Run("drain", func(t *testing.T) { drain(t, w, way) })
				})
			}
			t.Run("lost", func(t *testing.T) { historyLost(t, w, topology) })
		})
	}
}

func runScenarios(t *testing.T, s *site, topology, way string) {
	for _, sc := range scenarios() {
		if !wanted(topology, way, sc.name) {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			for _, tr := range transports(way) {
				t.Run(tr.Name, func(t *testing.T) {
					t.Parallel()
					sc.run(t, s, tr)
				})
			}
		})
	}
}

func full() bool { return os.Getenv("CONFORMANCE") == "full" }

// wanted reports whether a combination is run: the full product on demand.
func wanted(topology, way, scenario string) bool {
	if full() || topology == "alone" && way == http1 {
		return true
	}
	few := []string{"delivery", "resume", "drain"}
	around := []string{nginx, haproxy, http2}
	return slices.Contains(few, scenario) && (topology == "split" && way == http1 || topology == "alone" && slices.Contains(around, way))
}

// transports are those that exist on a way.
func transports(way string) []client.Transport {
	return slices.DeleteFunc(client.Transports(), func(tr client.Transport) bool {
		return tr.Socket && (way == http2 || way == h2c) // RFC 8441 is not offered
	})
}
