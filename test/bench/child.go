package bench

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// childKey is the variable that makes the test binary a server to compare with.
const childKey = "BENCH_CHILD"

// serveChild is the main function of a child: it prints its address, and serves
// until its input ends.
func serveChild(name string) error {
	if name == "bare" {
		return serveBare(os.Stdin, os.Stdout)
	}
	return serveHandler(os.Stdin, os.Stdout)
}

// startChild starts one until the benchmark ends, and returns its process, its
// address and its input.
func startChild(b *testing.B, name string) (pid int, addr string, in io.Writer) {
	b.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childKey+"="+name)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatalf("start %s: %v", name, err)
	}
	return cmd.Process.Pid, strings.TrimSpace(line), in
}
