// Package cluster starts real Comet processes for tests: the built binary, real
// ports on loopback, and the real etcd server in the test's process.
package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Open is a config in which everybody may do everything.
const Open = `namespaces:
  - {pattern: "/**", subscribe: anyone, publish: anyone}
  - {pattern: "/service/**", subscribe: backends, publish: anyone}
`

// Process is one running Comet.
type Process struct {
	Name string
	// HTTP, GRPC and Internal are the addresses of its doors, host:port.
	HTTP, GRPC, Internal, Node string

	// Binary is what is started; empty: what Binary returns.
	Binary string

	cmd  *exec.Cmd
	args []string
	log  *logBuffer
	done chan struct{}
	err  error
}

// Binary builds the comet command once a test process, with the race detector,
// and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildOnce builds once for all tests of a process.
var buildOnce = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("COMET_BINARY"); given != "" {
		return given, nil
	}
	dir, err := os.MkdirTemp("", "comet-test")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "comet")
	build := exec.Command("go", "build", "-race", "-o", path, "github.com/comet-push/comet/cmd/comet")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return "", buildError(err, out)
	}
	return path, nil
})

func buildError(err error, out []byte) error { return fmt.Errorf("build comet: %w\n%s", err, out) }

// lastPort is the last one that was given out; see Ports.
var lastPort atomic.Int64

// Ports returns n free ports of loopback. They lie below those the kernel gives
// to connections and to ":0", so that nobody takes one before it is listened
// on, and none is given out twice.
func Ports(t testing.TB, n int) []int {
	t.Helper()
	const lowest, highest = 20_000, 32_000
	lastPort.CompareAndSwap(0, lowest+int64(os.Getpid())%8_000)
	ports := make([]int, 0, n)
	for range highest - lowest {
		port := int(lastPort.Add(1))
		if port >= highest {
			t.Fatal("no ports left for this test process")
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // somebody has it
		}
		_ = l.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no free ports")
	return nil
}

// Config writes a config file and returns its path.
func Config(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "comet.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// New returns a process that will serve the targets once started.
func New(t testing.TB, name, target string, args ...string) *Process {
	t.Helper()
	ports := Ports(t, 4)
	addr := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	p := &Process{Name: name, HTTP: addr(0), GRPC: addr(1), Internal: addr(2), Node: addr(3)}
	p.args = append([]string{
		"serve", "--target=" + target, "--node.name=" + name,
		"--edge.listen=" + p.HTTP, "--grpc.listen=" + p.GRPC, "--internal.listen=" + p.Internal,
		"--node.listen=" + p.Node, "--node.advertise=" + p.Node,
	}, args...)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("---- last log of %s\n%s", p.Name, p.Log())
		}
	})
	return p
}

// Start starts the process, or starts it again with the same doors.
func (p *Process) Start(t testing.TB) {
	t.Helper()
	p.log = &logBuffer{}
	binary := p.Binary
	if binary == "" {
		binary = Binary(t)
	}
	p.cmd = exec.Command(binary, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	// A test that is killed takes its processes with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.Name, err)
	}
	p.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		p.err = cmd.Wait()
		close(done)
	}(p.cmd, p.done)
}

// Ready waits until the process says that it is ready.
func (p *Process) Ready(t testing.TB, within time.Duration) {
	t.Helper()
	Eventually(t, within, p.Name+" ready", func() error {
		select {
		case <-p.done:
			t.Fatalf("%s ended: %v\n%s", p.Name, p.err, p.Log())
		default:
		}
		return p.probe()
	})
}

// probe asks for /readyz once.
func (p *Process) probe() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Internal+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz: %s", resp.Status)
	}
	return nil
}

// Pid is the number of the running process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends the process a signal.
func (p *Process) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Errorf("signal %s: %v", p.Name, err)
	}
}

// Stop asks the process to end and waits; it fails the test when that takes
// longer than within or ends with an error.
func (p *Process) Stop(t testing.TB, within time.Duration) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop %s: %v", p.Name, err)
	}
	select {
	case <-p.done:
		if p.err != nil {
			t.Errorf("%s ended with %v\n%s", p.Name, p.err, p.Log())
		}
	case <-time.After(within):
		t.Errorf("%s did not end within %v\n%s", p.Name, within, p.Log())
		p.Kill()
	}
}

// Kill ends the process at once.
func (p *Process) Kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// Wait waits for the process to end and returns how it ended.
func (p *Process) Wait(within time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(within):
		return nil
	}
}

// Log returns the end of what the process wrote.
func (p *Process) Log() string { return p.log.String() }

// Eventually calls check until it returns nil, and fails the test with its
// last error when that takes longer than within.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
	}
}

// logBuffer keeps the last part of a process's output.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	const most = 1 << 20
	if b.text.Len() > most {
		b.text.Next(b.text.Len() - most/2)
	}
	return b.text.Write(p)
}

// String returns the last lines.
func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := strings.Split(b.text.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}
