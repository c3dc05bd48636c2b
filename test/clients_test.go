// Package test runs Comet as its users do: real processes, a real etcd, the
// reference clients, containers.
package test

import (
	"os/exec"
	"testing"

	"github.com/comet-push/comet/test/internal/cluster"
)

// quick are the edge's times for tests that wait for sessions to expire.
var quick = []string{"--edge.max-interval=3s", "--edge.poll-timeout=8s"}

// TestClients runs the scenarios of the unmodified CometD and Faye clients
// against one process, and against the services apart.
func TestClients(t *testing.T) {
	needNode(t)
	t.Run("alone", func(t *testing.T) {
		p := cluster.Alone(t, quick...)
		for _, client := range []string{"cometd", "faye"} {
			t.Run(client, func(t *testing.T) { runClient(t, client, p.HTTP, p.Internal) })
		}
	})
	t.Run("split", func(t *testing.T) {
		c := cluster.Split(t, 2, 3, quick...)
		for i, client := range []string{"cometd", "faye"} {
			t.Run(client, func(t *testing.T) { runClient(t, client, c.Edges[i].HTTP, c.Brokers[i].Internal) })
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

// runClient runs all scenarios of one client against an edge; rest is the
// internal door of a broker.
func runClient(t *testing.T, client, edge, rest string) {
	t.Helper()
	needNode(t)
	cmd := exec.Command("node", "clients/run.mjs", "--client", client,
		"--url", "http://"+edge+"/cometd", "--rest", "http://"+rest, "--max-interval", "3000")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("scenarios of %s: %v", client, err)
	}
}
