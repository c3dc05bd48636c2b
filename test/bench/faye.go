package bench

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/comet-push/comet/test/internal/cluster"
)

// startFaye starts Faye's server on Node.js; nil if one of them is not there.
func startFaye(b *testing.B) *site {
	b.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat("../clients/node_modules/faye")
	}
	if err != nil {
		b.Logf("left out Faye: %v; make test-deps installs it", err)
		return nil
	}
	port := cluster.Ports(b, 1)[0]
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(node, "--max-old-space-size=4096", "faye.mjs", strconv.Itoa(port))
	cmd.Env = append(os.Environ(), "NODE_ENV=production")
	return &site{http: addr, rest: addr, pid: run(b, "Faye", addr, cmd)}
}
