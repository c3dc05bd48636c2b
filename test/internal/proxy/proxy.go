// Package proxy starts Debian's nginx and HAProxy with the recipes of
// deploy/proxy, so that what is documented is what is tested.
package proxy

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// Edit is a change to a recipe: each must be found in it.
type Edit struct{ From, To string }

// Mute makes nginx hold bodies back, as proxies do that know nothing of
// streams: it speaks HTTP/1.0 to the edge, as it does unless told otherwise,
// and collects what comes in buffers.
func Mute() []Edit {
	return []Edit{
		{"proxy_http_version 1.1;", "proxy_http_version 1.0;"},
		{"gzip off;", "proxy_ignore_headers X-Accel-Buffering; proxy_buffering on;"},
	}
}

// Compress makes nginx compress all it can.
func Compress() Edit {
	return Edit{"gzip off;", "gzip on; gzip_proxied any; gzip_types *; gzip_min_length 0;"}
}

// Nginx starts nginx in front of edges and returns its address.
func Nginx(t testing.TB, edges []*cluster.Process, edits ...Edit) string {
	t.Helper()
	bin := need(t, "nginx")
	address := fmt.Sprintf("127.0.0.1:%d", cluster.Ports(t, 1)[0])
	dir := t.TempDir()
	self, err := user.Current() // else root's workers are nobody's, and may not write to dir
	if err != nil {
		t.Fatal(err)
	}
	var servers, temp strings.Builder
	for _, edge := range edges {
		fmt.Fprintf(&servers, "server %s;\n", edge.HTTP)
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	config := recipe(t, "nginx.conf", append([]Edit{
		{"server 127.0.0.1:8080;\n", servers.String()},
		{"listen 80;", "listen " + address + " sndbuf=64k;"},
		{"worker_processes auto;", "user " + self.Username + "; worker_processes 1; daemon off; pid " + filepath.Join(dir, "pid") + ";"},
		{"worker_rlimit_nofile 200000;\n", ""},
		{"worker_connections 100000;", "worker_connections 4096;"},
		{"http {\n", "http {\naccess_log off;\n" + temp.String()},
	}, edits...))
	start(t, "nginx", address, exec.Command(bin, "-e", "stderr", "-p", dir, "-c", config))
	return address
}

// HAProxy starts HAProxy in front of edges and returns its address.
func HAProxy(t testing.TB, edges []*cluster.Process, edits ...Edit) string {
	t.Helper()
	bin := need(t, "haproxy")
	address := fmt.Sprintf("127.0.0.1:%d", cluster.Ports(t, 1)[0])
	var servers strings.Builder
	for i, edge := range edges {
		_, port, err := net.SplitHostPort(edge.Internal)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&servers, "    server edge-%d %s port %s\n", i, edge.HTTP, port)
	}
	config := recipe(t, "haproxy.cfg", append([]Edit{
		{"    server edge-0 127.0.0.1:8080 port 8081\n", servers.String()},
		{"bind :80\n", "bind " + address + "\n"},
		{"maxconn 100000", "maxconn 1000"},
	}, edits...))
	start(t, "haproxy", address, exec.Command(bin, "-db", "-f", config))
	return address
}

// need returns the path of a program.
func need(t testing.TB, name string) string {
	t.Helper()
	for _, name := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed: make test-deps installs it, as root on Debian", name)
	return ""
}

// recipe writes a recipe of deploy/proxy, edited, and returns its path.
func recipe(t testing.TB, name string, edits []Edit) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root(t), "deploy", "proxy", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, edit := range edits {
		if strings.Count(text, edit.From) != 1 {
			t.Fatalf("%s has %q %d times, want once", name, edit.From, strings.Count(text, edit.From))
		}
		text = strings.Replace(text, edit.From, edit.To, 1)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// root is the folder of the repository.
func root(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/comet-push/comet").Output()
	if err != nil {
		t.Fatalf("find the repository: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// start runs a proxy until the test ends, and waits until it takes connections.
func start(t testing.TB, name, address string, cmd *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("---- log of %s\n%s", name, log.String())
		}
	})
	cluster.Eventually(t, 10*time.Second, name+" listens", func() error {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
}
