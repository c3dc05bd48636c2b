package test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestDemoPage opens the demo page in Chromium: it connects, shows what a
// backend publishes, and publishes itself.
func TestDemoPage(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed: make test-deps installs it, as root on Debian")
	}
	p := cluster.Dev(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1180, 760))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)

	run(ctx, t, "open the page", chromedp.Navigate("http://"+p.HTTP+"/"))
	shows(ctx, t, `document.getElementById("state").dataset.state === "connected"`)
	shows(ctx, t, `document.getElementById("channels").children.length > 0`)

	status, reply := post(t, "http://"+p.Internal+"/v1/publish", "application/json",
		`{"channel":"/demo","data":{"from":"a backend","price":42.5}}`)
	if status != http.StatusOK {
		t.Fatalf("publish: %d %s", status, reply)
	}
	shows(ctx, t, `document.getElementById("messages").textContent.includes("a backend")`)

	run(ctx, t, "write a message", chromedp.SetValue("#publish-data", "Hello from Chromium"))
	run(ctx, t, "publish it", chromedp.Click("#publish button"))
	shows(ctx, t, `document.getElementById("messages").textContent.includes("Hello from Chromium")`)

	if folder := os.Getenv("SCREENSHOTS"); folder != "" {
		png := run(ctx, t, "take a screenshot", chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(folder, "demo.png"), png, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// run carries out one step in the browser.
func run[T any](ctx context.Context, t *testing.T, what string, a chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return value
}

// shows waits until an expression holds in the page.
func shows(ctx context.Context, t *testing.T, expression string) {
	t.Helper()
	run(ctx, t, "wait for "+expression, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(10*time.Second)))
}
