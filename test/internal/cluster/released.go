package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Released builds the comet command as it is released, without the race
// detector, once a test process, and returns its path: for what measures.
func Released(t testing.TB) string {
	t.Helper()
	path, err := releaseOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// releaseOnce builds once for all tests of a process.
var releaseOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "comet-released")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "comet")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/comet-push/comet/cmd/comet")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", buildError(err, out)
	}
	return path, nil
})
