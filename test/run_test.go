package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestMakeRun does what a new user does: a fresh clone, make run, the demo
// page, the printed curl. Node, docker and buf are out of its sight; only Go's
// caches are shared, to save the time.
func TestMakeRun(t *testing.T) {
	clone := filepath.Join(t.TempDir(), "comet")
	if out, err := exec.Command("git", "clone", "-q", "..", clone).CombinedOutput(); err != nil {
		t.Fatalf("clone: %v\n%s", err, out)
	}
	goBin, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	ports := cluster.Ports(t, 3)
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	cmd := exec.Command("make", "run",
		"ARGS=--edge.listen="+at(0)+" --grpc.listen="+at(1)+" --internal.listen="+at(2))
	cmd.Dir = clone
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + filepath.Dir(goBin) + ":/usr/bin:/bin"}
	for _, name := range []string{"GOMODCACHE", "GOCACHE", "GOPROXY"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(value)))
	}
	var said strings.Builder
	out := &lockedWriter{w: &said}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })

	cluster.Eventually(t, 5*time.Minute, "the binary is built", func() error {
		_, err := os.Stat(filepath.Join(clone, "bin", "comet"))
		return err
	})
	cluster.Eventually(t, time.Minute, "the demo page answers", func() error { return page("http://" + at(0) + "/") })
	cluster.Eventually(t, 5*time.Second, "it says where to look", func() error {
		for _, want := range []string{"http://" + at(0), "curl", "open"} {
			if !strings.Contains(out.String(), want) {
				return fmt.Errorf("it did not say %q:\n%s", want, out.String())
			}
		}
		return nil
	})
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Errorf("it did not end:\n%s", out.String())
	}
}

// page returns nil when a page answers with HTML.
func page(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return fmt.Errorf("%s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	return nil
}
