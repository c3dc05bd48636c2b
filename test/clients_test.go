// Package test runs Comet as its users do: real processes, a real etcd, the
// reference clients, containers.
package test

import (
	"os/exec"
	"testing"

	"github.com/comet-push/comet/test/internal/cluster"
	"github.com/comet-push/comet/test/internal/proxy"
)

// quick are the edge's times for tests that wait for sessions to expire.
var quick = []string{"--edge.max-interval=3s", "--edge.poll-timeout=8s"}

// TestClients runs the scenarios of the unmodified CometD and Faye clients,
// over each of their transports that runs outside of browsers, against one
// process, and against the services apart, behind a proxy that sends every
// request to another edge.
func TestClients(t *testing.T) {
	needNode(t)
	clients := []struct {
		name       string
		transports []string
	}{
		{"cometd", []string{"long-polling", "websocket", "callback-polling"}},
		{"faye", []string{"long-polling", "websocket"}},
	}
	t.Run("alone", func(t *testing.T) {
		p := cluster.Alone(t, append(quick, "--edge.jsonp")...)
		for _, client := range clients {
			for _, transport := range client.transports {
				t.Run(client.name+" "+transport, func(t *testing.T) {
					t.Parallel()
					runClient(t, client.name, transport, p.HTTP, p.Internal)
				})
			}
		}
	})
	t.Run("split", func(t *testing.T) {
		c := cluster.Split(t, 3, 3, append(quick, "--edge.jsonp")...)
		c.Settle(t) // a slot that moves loses its history, which Faye's client is not told
		address := proxy.Nginx(t, c.Edges)
		for i, client := range clients {
			for _, transport := range client.transports {
				t.Run(client.name+" "+transport, func(t *testing.T) {
					t.Parallel()
					runClient(t, client.name, transport, address, c.Brokers[i].Internal)
				})
			}
		}
	})
}

// needNode skips a test where the reference clients cannot run.
func needNode(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed: make test-deps installs it, as root on Debian")
	}
	if err := exec.Command("node", "-e", "require.resolve('cometd',{paths:['clients']})").Run(); err != nil {
		t.Skip("the reference clients are not installed: make test-deps installs them")
	}
}

// runClient runs all scenarios of one client over one transport against an
// edge; rest is the internal door of a broker.
func runClient(t *testing.T, client, transport, edge, rest string) {
	t.Helper()
	needNode(t)
	cmd := exec.Command("node", "clients/run.mjs", "--client", client, "--transport", transport,
		"--url", "http://"+edge+"/cometd", "--rest", "http://"+rest, "--max-interval", "3000")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("scenarios of %s over %s: %v", client, transport, err)
	}
}
