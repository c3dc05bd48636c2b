//go:build k8s

// Package k8s deploys the laptop overlay to the cluster that KUBECONFIG names
// and uses it as clients do, also while it is restarted. The cluster's nodes
// must have the images of make image.
package k8s

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

const namespace = "comet"

// kubectl runs a command and returns what it printed.
func kubectl(t testing.TB, within time.Duration, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	out, err := exec.CommandContext(ctx, "kubectl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(bytes.TrimSpace(out))
}

// deploy applies the overlay and waits until everything is ready.
func deploy(t testing.TB) {
	t.Helper()
	began := time.Now()
	t.Log(kubectl(t, time.Minute, "apply", "-k", "../../deploy/k8s/overlays/laptop"))
	for _, what := range []string{"statefulset/etcd", "statefulset/broker", "deployment/presence", "deployment/edge"} {
		rollout(t, what)
	}
	t.Logf("ready after %v", time.Since(began).Round(time.Second))
	t.Cleanup(func() {
		if t.Failed() {
			diagnose(t)
		}
	})
}

// rollout waits until a workload is as it should be, at most three minutes.
func rollout(t testing.TB, what string) {
	t.Helper()
	began := time.Now()
	kubectl(t, 3*time.Minute+10*time.Second, "-n", namespace, "rollout", "status", what, "--timeout=180s")
	t.Logf("%s rolled out after %v", what, time.Since(began).Round(time.Second))
}

// diagnose logs what the cluster says of the pods.
func diagnose(t testing.TB) {
	t.Helper()
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "-l", "app.kubernetes.io/part-of=comet", "--prefix", "--tail=30"},
		{"logs", "-l", "app=broker", "--prefix", "--tail=40"},
		{"logs", "-l", "app=edge", "--prefix", "--tail=40"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		out, err := exec.CommandContext(ctx, "kubectl", append([]string{"-n", namespace}, args...)...).CombinedOutput()
		cancel()
		t.Logf("kubectl %v (%v)\n%s", args, err, out)
	}
}

// address returns where a service's port answers: its cluster address if this
// machine has a route to it, else a port-forward that is started again
// whenever it ends.
func address(t testing.TB, service string, port int) string {
	t.Helper()
	ip := kubectl(t, 10*time.Second, "-n", namespace, "get", "service", service, "-o", "jsonpath={.spec.clusterIP}")
	direct := net.JoinHostPort(ip, strconv.Itoa(port))
	if conn, err := net.DialTimeout("tcp", direct, 2*time.Second); err == nil {
		_ = conn.Close()
		return direct
	}
	local := cluster.Ports(t, 1)[0]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cmd := exec.CommandContext(ctx, "kubectl", "-n", namespace, "port-forward", "service/"+service,
				fmt.Sprintf("%d:%d", local, port))
			_ = cmd.Run() // ends with the pod; the next one takes another
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return fmt.Sprintf("127.0.0.1:%d", local)
}

// lines runs a command and hands over its lines until the test ends.
func lines(t testing.TB, name string, args ...string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ch := make(chan string, 1<<16)
	go func() {
		defer close(ch)
		for in := bufio.NewScanner(out); in.Scan(); {
			ch <- in.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
		if t.Failed() && errs.Len() > 0 {
			t.Logf("%s: %s", name, errs.String())
		}
	})
	return ch
}
