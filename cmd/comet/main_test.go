package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comet-push/comet/cmd/comet/wire"
	"github.com/comet-push/comet/internal/run"
)

// output is what a command wrote so far.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func TestCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "comet.yaml")
	if err := os.WriteFile(file, []byte("edge:\n  pol-timeout: 3s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, tt := range []struct {
		args, env []string
		code      int
		want      string
	}{
		{[]string{"version"}, nil, 0, "comet dev go"},
		{[]string{"config", "--edge.poll-timeout=7s"}, []string{"COMET_ZONE=z"}, 0, "poll-timeout: 7s"},
		{[]string{"--help"}, nil, 0, "comet dev"},
		{[]string{"serve", "--help"}, nil, 0, "--etcd.endpoints"},
		{[]string{"completion", "bash"}, nil, 0, "bash completion"},
		{[]string{"fly"}, nil, 1, `comet: unknown command "fly"`},
		{[]string{"serve", "now"}, nil, 1, `comet: unknown command "now"`},
		{[]string{"serve", "--edge.pol-timeout=3s"}, nil, 1, "did you mean edge.poll-timeout?"},
		{[]string{"serve", "--config=" + file}, nil, 1, "comet.yaml:2: edge.pol-timeout: unknown key; did you mean edge.poll-timeout?"},
		{[]string{"serve", "--target=moon"}, nil, 1, `target: "moon" is not one of all, edge, broker, presence`},
		{[]string{"dev"}, []string{"COMET_LOG_LEVEL=loud"}, 1, `log level "loud" is not one of debug`},
		{[]string{"--grpc.listen=" + taken.Addr().String()}, nil, 1, "choose another address with --grpc.listen="},
	} {
		var out output
		code := execute(t.Context(), tt.args, tt.env, &out, &out)
		if code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%v: code %d\n%s\nwant %d %q", tt.args, code, out.String(), tt.code, tt.want)
		}
	}
}

// TestDev starts comet as a new user does, on ports that are free.
func TestDev(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var out, logs output
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, []string{
			"--edge.listen=127.0.0.1:0", "--grpc.listen=127.0.0.1:0", "--internal.listen=127.0.0.1:0",
		}, nil, &out, &logs)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !strings.Contains(out.String(), "Ctrl-C"); {
		select {
		case <-tick.C:
		case code := <-ended:
			t.Fatalf("ended with %d\n%s", code, logs.String())
		case <-deadline:
			t.Fatalf("no greeting\n%s\n%s", out.String(), logs.String())
		}
	}
	said := out.String()
	for _, want := range []string{"open to everybody on this machine", "curl -H 'Content-Type: application/json' http://127.0.0.1:", "/v1/publish"} {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q:\n%s", want, said)
		}
	}
	_, rest, _ := strings.Cut(said, "Demo page")
	page := strings.Fields(rest)[0]
	resp, err := http.Get(page)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", page, resp.Status)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel(run.ErrDraining)
	if code := <-ended; code != 0 {
		t.Errorf("ended with %d\n%s", code, logs.String())
	}
}

func TestGreetingSaysWhoMayReachIt(t *testing.T) {
	if text := greeting(wire.Addrs{Edge: "0.0.0.0:8080", Internal: "127.0.0.1:8081"}); !strings.Contains(text, "open to everybody who can reach it") {
		t.Error(text)
	}
}
