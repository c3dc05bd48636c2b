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

	step := func(what string, actions ...chromedp.Action) {
		t.Helper()
		if err := chromedp.Run(ctx, actions...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	arrived := func(text string) chromedp.Action {
		return chromedp.Poll(`document.getElementById("messages").textContent.includes(`+text+`)`, nil,
			chromedp.WithPollingTimeout(10*time.Second))
	}
	step("the page connects", chromedp.Navigate("http://"+p.HTTP+"/"),
		chromedp.Poll(`document.getElementById("state").dataset.state === "connected"`, nil, chromedp.WithPollingTimeout(10*time.Second)),
		chromedp.Poll(`document.getElementById("channels").children.length > 0`, nil, chromedp.WithPollingTimeout(10*time.Second)))

	status, reply := post(t, "http://"+p.Internal+"/v1/publish", "application/json",
		`{"channel":"/demo","data":{"from":"a backend","price":42.5}}`)
	if status != http.StatusOK {
		t.Fatalf("publish: %d %s", status, reply)
	}
	step("a backend's message arrives", arrived(`"a backend"`))
	step("the page publishes", chromedp.SetValue("#publish-data", "Hello from Chromium"),
		chromedp.Click("#publish button"), arrived(`"Hello from Chromium"`))

	if folder := os.Getenv("SCREENSHOTS"); folder != "" {
		var png []byte
		step("screenshot", chromedp.FullScreenshot(&png, 100))
		if err := os.WriteFile(filepath.Join(folder, "demo.png"), png, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
