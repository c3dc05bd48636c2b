// Package memory keeps what an idle client costs within bounds.
package memory

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// clients is how many each server holds: near to what one process may open.
const clients = 15_000

// TestMain lets more tests run at once than there are cores: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestIdleClients holds clients that get no messages, and bounds by how much
// the server's memory grew for each of them: 1.3 times of what is promised, in
// bytes, by transport. No collection is forced.
func TestIdleClients(t *testing.T) {
	const tolerance = 1.3
	promised := map[string]float64{
		"long-polling": 3072, "sse": 2560, "stream": 2560, "frame": 2560, "multipart": 2560, "websocket": 3584, "ws": 3584,
	}
	binary := cluster.Released(t)
	for transport, bytes := range promised {
		t.Run(transport, func(t *testing.T) {
			t.Parallel() // they mostly wait, and bytes do not depend on the load
			grown := measure(t, binary, transport)
			t.Logf("%.0f bytes a client, %.2f of %.0f", grown, grown/bytes, bytes)
			if grown > tolerance*bytes {
				t.Errorf("an idle client costs %.0f bytes, more than %.1f times of %.0f", grown, tolerance, bytes)
			}
		})
	}
}

func measure(t *testing.T, binary, transport string) float64 {
	t.Helper()
	p := cluster.New(t, "one", "all", "--config="+cluster.Config(t, cluster.Open))
	p.Binary = binary
	p.Start(t)
	p.Ready(t, 20*time.Second)
	bench := exec.CommandContext(t.Context(), binary, "bench", "idle", "--quiet", "--json=-", "--url=http://"+p.HTTP,
		"--transport="+transport, "--clients="+strconv.Itoa(clients), "--duration=30s", "--pid="+strconv.Itoa(p.Pid()))
	out, err := bench.Output()
	if err != nil {
		t.Fatalf("bench: %v\n%s", err, out)
	}
	var result struct {
		Sessions struct{ Established int }
		Server   struct {
			PSSPerClient float64 `json:"pssBytesPerClient"`
		}
	}
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("bench printed %s: %v", out, err)
	}
	if result.Sessions.Established != clients {
		t.Fatalf("%d clients are there, want %d\n%s", result.Sessions.Established, clients, out)
	}
	if result.Server.PSSPerClient <= 0 {
		t.Fatalf("no figure\n%s", out)
	}
	return result.Server.PSSPerClient
}
