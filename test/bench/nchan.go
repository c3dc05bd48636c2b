package bench

import (
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

const (
	nginxPath = "/usr/sbin/nginx"
	nchanPath = "/usr/lib/nginx/modules/ngx_nchan_module.so"
)

// nchanConfig has %s for the module, the user, the folder and the address.
const nchanConfig = `load_module %s;
daemon off; user %s; worker_processes auto; worker_rlimit_nofile 20000;
pid %[3]s/pid; error_log stderr warn;
events { worker_connections 19900; multi_accept on; use epoll; }
http {
  access_log off; tcp_nodelay on; keepalive_requests 100000000;
  client_body_temp_path %[3]s/body; proxy_temp_path %[3]s/proxy; fastcgi_temp_path %[3]s/fastcgi;
  uwsgi_temp_path %[3]s/uwsgi; scgi_temp_path %[3]s/scgi;
  nchan_shared_memory_size 512M; nchan_message_buffer_length 2000; nchan_message_timeout 30s;
  server {
    listen %[4]s backlog=4096 reuseport;
    location = /pub { nchan_publisher; nchan_channel_id $arg_id; }
    location = /sub { nchan_subscriber; nchan_channel_id $arg_id; nchan_subscriber_first_message newest; }
  }
}
`

// nchanAsk is what makes nchan's subscriber the counterpart of a transport.
func nchanAsk(transport, host, target string) string {
	switch transport {
	case "sse":
		return get(host, target, "Accept: text/event-stream")
	case "stream":
		return get(host, target, "TE: chunked")
	case "multipart":
		return get(host, target, "Accept: multipart/mixed")
	case "ws":
		return upgrade(host, target)
	}
	return ""
}

// startNchan starts Debian's nginx with nchan, as many workers as there are
// processors, for clients of a transport; nil if one of them is not there.
func startNchan(b *testing.B, transport string) *peer {
	b.Helper()
	if nchanAsk(transport, "", "") == "" {
		return nil
	}
	for _, path := range []string{nginxPath, nchanPath} {
		if _, err := os.Stat(path); err != nil {
			b.Logf("left out nchan: %v; Debian has it as nginx-light and libnginx-mod-nchan", err)
			return nil
		}
	}
	self, err := user.Current() // else root's workers are nobody's, and may not write to dir
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	addr := fmt.Sprintf("127.0.0.1:%d", cluster.Ports(b, 1)[0])
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, nchanConfig, nchanPath, self.Username, dir, addr), 0o600); err != nil {
		b.Fatal(err)
	}
	pid := run(b, "nchan", addr, exec.Command(nginxPath, "-e", "stderr", "-p", dir, "-c", config))
	in := &poster{addr: addr}
	return &peer{
		name: "nchan " + transport, pid: pid, addr: addr, ready: []byte("\r\n\r\n"),
		ask:     func(channel string) string { return nchanAsk(transport, addr, "/sub?id="+channel) },
		publish: func(r *reader, data []byte) error { return in.post("/pub?id="+r.channel, data) },
	}
}

// run runs a server until the benchmark ends, waits until it takes connections,
// and returns its process.
func run(b *testing.B, name, addr string, cmd *exec.Cmd) (pid int) {
	b.Helper()
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		b.Fatalf("start %s: %v", name, err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		_ = cmd.Wait()
		if b.Failed() {
			b.Logf("---- log of %s\n%s", name, log.String())
		}
	})
	cluster.Eventually(b, 10*time.Second, name+" listens", func() error {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	return cmd.Process.Pid
}
