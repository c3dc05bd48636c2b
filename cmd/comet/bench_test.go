package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/internal/load"
	"github.com/comet-push/comet/internal/run"
)

func TestBenchSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"bench"}, 1, "say what to measure"},
		{[]string{"bench", "--help"}, 0, "comet bench check"},
		{[]string{"bench", "fanout", "--help"}, 0, "--limit"},
		{[]string{"bench", "dance"}, 1, `unknown command "dance"`},
		{[]string{"bench", "idle", "now"}, 1, `unknown command "now"`},
		{[]string{"bench", "idle", "--rate=5"}, 1, "unknown flag: --rate"},
		{[]string{"bench", "check", "--publish=mail"}, 1, `--publish "mail" is neither rest nor edge`},
		{[]string{"bench", "check", "--transport=mail"}, 1, "is not one of long-polling"},
		{[]string{"bench", "check", "--url=http://192.0.2.1"}, 1, "give --remote"},
	} {
		var out output
		if code := execute(t.Context(), tt.args, nil, &out, &out); code != tt.code || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%v: code %d\n%s\nwant %d %q", tt.args, code, out.String(), tt.code, tt.want)
		}
	}
}

// TestBench checks a real server over every transport, in short.
func TestBench(t *testing.T) {
	edge, rest := dev(t)
	for _, transport := range load.Transports() {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "results")
			var out, status output
			code := execute(t.Context(), []string{
				"bench", "check", "--url=" + edge, "--rest=" + rest, "--transport=" + transport,
				"--duration=500ms", "--poll-every=100ms", "--json=" + file,
			}, nil, &out, &status)
			text, err := os.ReadFile(file)
			if code != 0 || err != nil {
				t.Fatalf("code %d, %v\n%s%s", code, err, out.String(), status.String())
			}
			var result load.Result
			if err := json.Unmarshal(text, &result); err != nil || result.Delivery.Delivered != 30 {
				t.Errorf("%v\n%s", err, text)
			}
			if !strings.Contains(out.String(), "30 of 30") || !strings.Contains(status.String(), "connecting") {
				t.Errorf("%s%s", out.String(), status.String())
			}
		})
	}
}

// dev starts comet on ports that are free, until the test ends.
func dev(t *testing.T) (edge, rest string) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	var out, logs output
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, []string{
			"--edge.listen=127.0.0.1:0", "--grpc.listen=127.0.0.1:0", "--internal.listen=127.0.0.1:0", "--drain-timeout=1s",
		}, nil, &out, &logs)
	}()
	t.Cleanup(func() {
		cancel(run.ErrDraining)
		<-ended
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !strings.Contains(out.String(), "Ctrl-C"); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no greeting\n%s\n%s", out.String(), logs.String())
		}
	}
	url := func(behind, before string) string {
		_, text, _ := strings.Cut(out.String(), behind)
		text, _, _ = strings.Cut(strings.TrimSpace(text), before)
		return strings.TrimSpace(text)
	}
	return url("Demo page", "/\n"), url("REST", "/v1/")
}

func TestProgress(t *testing.T) {
	var out output
	p := &progress{out: &out, every: time.Hour}
	p.line("one")
	p.line("two")
	p.end()
	if out.String() != "one\n" {
		t.Errorf("in lines: %q", out.String())
	}
	var screen output
	p = &progress{out: &screen, terminal: true}
	p.line("longer")
	p.last = time.Time{}
	p.line("short")
	p.end()
	if want := "\rlonger\rshort \r     \r"; screen.String() != want {
		t.Errorf("on a terminal: %q, want %q", screen.String(), want)
	}
}
