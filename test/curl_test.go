package test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestCurl reads and publishes plain channels with curl, as the docs show it.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed: make test-deps installs it, as root on Debian")
	}
	p := cluster.Alone(t, "--edge.jsonp", "--edge.heartbeat=1s", "--edge.h2c", "--edge.allowed-origins=https://app.example.com")
	base := "http://" + p.HTTP
	t.Run("streams", func(t *testing.T) { curlStreams(t, base) })
	t.Run("replies", func(t *testing.T) { curlReplies(t, base) })
	t.Run("publish", func(t *testing.T) { curlPublish(t, base) })
	t.Run("refused", func(t *testing.T) { curlRefused(t, base) })
}

// noise is what differs from run to run.
var noise = regexp.MustCompile(`\b[0-9]{16}\b`)

// curlStreams follows a channel until the second heartbeat; the whole output
// is as expected, but for positions, which read P.
func curlStreams(t *testing.T, base string) {
	const (
		open    = `{"type":"open","cursor":"P","heartbeat":1}`
		message = `{"channel":"/curl/NAME","position":P,"data":{"n": "</script>"}}`
		beat    = `{"type":"heartbeat","cursor":"P"}`
		escaped = `{"channel":"/curl/NAME","position":P,"data":{"n": "\u003c/script\u003e"}}`
	)
	lines := open + "\n" + message + "\n" + beat + "\n"
	tests := []struct {
		name, contentType, want string
		args                    []string
	}{
		{"sse", "text/event-stream", "retry: 2000\nevent: comet\nid: P\ndata: " + open + "\n\n" +
			"id: P\ndata: " + message + "\n\n" + "event: comet\nid: P\ndata: " + beat + "\n\n", nil},
		{"stream", "application/x-ndjson", lines, nil},
		{"stream-1.0", "application/x-ndjson", lines, []string{"--http1.0"}},
		{"stream-2", "application/x-ndjson", lines, []string{"--http2-prior-knowledge"}},
		{"multipart", "multipart/x-mixed-replace; boundary=comet", "--comet\r\n" + part(open) + part(message) + part(beat), nil},
		{"frame", "text/html; charset=utf-8", script(open) + script(escaped) + script(beat), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			transport, _, _ := strings.Cut(tt.name, "-")
			out := startCurl(t, append(tt.args, "-sNi", base+"/channels/curl/"+tt.name+"?transport="+transport+"&padding=0")...)
			out.shows(t, `"open"`)
			status, reply := post(t, base+"/channels/curl/"+tt.name, "application/json", `{"n": "</script>"}`)
			if status != http.StatusOK {
				t.Fatalf("publish: %d %s", status, reply)
			}
			out.shows(t, `"heartbeat","cursor"`)
			header, body, _ := strings.Cut(out.String(), "\r\n\r\n")
			if tt.name == "frame" {
				_, body, _ = strings.Cut(body, "<body>\n") // the head is for browsers to judge
			}
			body = noise.ReplaceAllString(body, "P")
			if want := strings.ReplaceAll(tt.want, "NAME", tt.name); !strings.HasPrefix(body, want) {
				t.Errorf("got\n%s\nwant\n%s", body, want)
			}
			has(t, header, map[string]string{
				"content-type": tt.contentType, "cache-control": "no-store, no-transform",
				"x-accel-buffering": "no", "x-content-type-options": "nosniff",
			})
		})
	}
}

func part(object string) string {
	return "Content-Type: application/json\r\n\r\n" + object + "\r\n--comet\r\n"
}

func script(object string) string { return "<script>c(" + object + ")</script>\n" }

// curlReplies reads a channel by requests that end.
func curlReplies(t *testing.T, base string) {
	address := base + "/channels/curl/replies"
	if status, reply := post(t, address, "application/json", `1`); status != http.StatusOK {
		t.Fatalf("publish: %d %s", status, reply)
	}
	const first = `{"messages":[{"channel":"/curl/replies","position":P,"data":1}],"cursor":"P"}`

	header, body := curl(t, "-si", address)
	if got := noise.ReplaceAllString(body, "P"); got != first {
		t.Errorf("poll: %s", got)
	}
	cursor := noise.FindString(body)
	has(t, header, map[string]string{
		"content-type": "application/json", "cache-control": "public, max-age=1", "etag": `"` + cursor + `"`,
	})
	header, body = curl(t, "-si", "-H", `If-None-Match: "`+cursor+`"`, address+"?since="+cursor)
	if !strings.HasPrefix(header, "HTTP/1.1 304 ") || body != "" {
		t.Errorf("a poll without news: %s %s", header, body)
	}
	header, body = curl(t, "-si", address+"?transport=jsonp&jsonp=app.take&since=earliest")
	if got := noise.ReplaceAllString(body, "P"); got != "/**/app.take("+first+");" {
		t.Errorf("jsonp: %s", got)
	}
	has(t, header, map[string]string{
		"content-type": "text/javascript; charset=utf-8", "content-disposition": "attachment; filename=f.txt",
		"cache-control": "no-store, no-transform", "x-content-type-options": "nosniff",
	})

	began := time.Now()
	_, body = curl(t, "-si", address+"?transport=long-poll&wait=1&since="+cursor)
	if took := time.Since(began); took < time.Second || body != `{"messages":[],"cursor":"`+cursor+`"}` {
		t.Errorf("a long-poll without news: %s after %v", body, took)
	}
	held := startCurl(t, "-si", address+"?transport=long-poll&since="+cursor)
	time.Sleep(200 * time.Millisecond)
	if held.String() != "" {
		t.Errorf("a long-poll without news was answered: %s", held)
	}
	post(t, address, "application/json", `"news"`)
	held.shows(t, `"data":"news"}],"cursor":"`)

	// Two requests of one connection, which was parked between them.
	_, body = curl(t, "-sv", "--stderr", "-", address, address+"?transport=long-poll&wait=0")
	if !strings.Contains(body, "Re-using existing connection") {
		t.Errorf("the connection was not kept:\n%s", body)
	}
}

// curlPublish publishes, with and without reading.
func curlPublish(t *testing.T, base string) {
	address := base + "/channels/curl/publish"
	send := func(path string, args ...string) string {
		t.Helper()
		_, body := curl(t, append(args, "-si", "-H", "Content-Type: application/json", "-d", `{"n":1}`, address+path)...)
		return noise.ReplaceAllString(body, "P")
	}
	for _, step := range []struct{ name, got, want string }{
		{"publish", send("", "-H", "Idempotency-Key: k"), `{"position":P,"duplicate":false}`},
		{"again", send("", "-H", "Idempotency-Key: k"), `{"position":P,"duplicate":true}`},
		{"piggyback", send("?since=earliest"), `{"position":P,"duplicate":false,"messages":[` +
			`{"channel":"/curl/publish","position":P,"data":{"n":1}},{"channel":"/curl/publish","position":P,"data":{"n":1}}],"cursor":"P"}`},
	} {
		if step.got != step.want {
			t.Errorf("%s: %s", step.name, step.got)
		}
	}
}

// curlRefused makes mistakes and is told.
func curlRefused(t *testing.T, base string) {
	long := strings.Repeat("x", 300)
	many := url.Values{}
	for i := range 65 {
		many.Add("channel", fmt.Sprintf("/%d", i))
	}
	tests := []struct {
		name   string
		args   []string
		status int
		reason string
	}{
		{"no such transport", []string{"/a?transport=pigeon"}, 406, "TRANSPORT_UNKNOWN"},
		{"ws without upgrade", []string{"/a?transport=ws"}, 426, "UPGRADE_REQUIRED"},
		{"unknown parameter", []string{"/a?colour=red"}, 400, "PARAMETER_INVALID"},
		{"twice", []string{"/a?since=1&since=2"}, 400, "PARAMETER_INVALID"},
		{"wait too long", []string{"/a?transport=long-poll&wait=3600"}, 400, "PARAMETER_INVALID"},
		{"limit", []string{"/a?limit=0"}, 400, "PARAMETER_INVALID"},
		{"cursor", []string{"/a?since=yesterday"}, 400, "CURSOR_INVALID"},
		{"cursor of many", []string{"/a?since=~AAAA"}, 400, "CURSOR_INVALID"},
		{"empty segment", []string{"/a//b"}, 400, "CHANNEL_INVALID"},
		{"dots", []string{"--path-as-is", "/a/../b"}, 400, "CHANNEL_INVALID"},
		{"slash in a segment", []string{"/a%2Fb"}, 400, "CHANNEL_INVALID"},
		{"meta", []string{"/meta/connect"}, 400, "CHANNEL_INVALID"},
		{"long name", []string{"/" + long}, 400, "CHANNEL_INVALID"},
		{"too many", []string{"?" + many.Encode()}, 400, "TOO_MANY_CHANNELS"},
		{"callback", []string{"/a?transport=jsonp&jsonp=alert(1)"}, 400, "PARAMETER_INVALID"},
		{"method", []string{"-X", "DELETE", "/a"}, 405, "METHOD_NOT_ALLOWED"},
		{"origin", []string{"-H", "Origin: https://evil.example.com", "/a"}, 403, "ORIGIN_DENIED"},
		{"not JSON", []string{"-d", "hello", "-H", "Content-Type: application/json", "/a"}, 400, "DATA_INVALID"},
		{"two values", []string{"-d", "1 2", "-H", "Content-Type: application/json", "/a"}, 400, "DATA_INVALID"},
		{"form", []string{"-d", "a=b", "/a"}, 415, "CONTENT_TYPE_UNSUPPORTED"},
		{"publish to a pattern", []string{"-d", "1", "-H", "Content-Type: application/json", "/a/*"}, 400, "CHANNEL_INVALID"},
		{"long key", []string{"-d", "1", "-H", "Content-Type: application/json", "-H", "Idempotency-Key: " + long, "/a"}, 400, "PARAMETER_INVALID"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"-si", "-g"}, tt.args...)
			args[len(args)-1] = base + "/channels" + args[len(args)-1]
			header, body := curl(t, args...)
			status := strings.HasPrefix(header, fmt.Sprintf("HTTP/1.1 %d ", tt.status))
			if !status || !strings.Contains(body, `"reason":"`+tt.reason+`"`) || strings.Contains(body, `"detail":""`) {
				t.Errorf("got %s\n%s\nwant %d %s", header, body, tt.status, tt.reason)
			}
			has(t, header, map[string]string{"content-type": "application/problem+json", "x-content-type-options": "nosniff"})
		})
	}
}

// curl runs curl and returns the header and body that it printed.
func curl(t *testing.T, args ...string) (header, body string) {
	t.Helper()
	out, err := exec.Command("curl", append([]string{"--max-time", "20"}, args...)...).Output()
	if err != nil {
		t.Fatalf("curl %v: %v\n%s", args, err, out)
	}
	header, body, ok := strings.Cut(string(out), "\r\n\r\n")
	if !ok {
		return "", string(out)
	}
	return header, body
}

// has checks headers, whose names are given in lower case.
func has(t *testing.T, header string, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for in := bufio.NewScanner(strings.NewReader(header)); in.Scan(); {
		name, value, _ := strings.Cut(in.Text(), ":")
		got[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("header %s is %q, want %q", name, got[name], value)
		}
	}
}

// curling is a curl that goes on.
type curling struct{ lockedWriter }

// startCurl runs curl until the test ends.
func startCurl(t *testing.T, args ...string) *curling {
	t.Helper()
	c := &curling{lockedWriter{w: &strings.Builder{}}}
	cmd := exec.Command("curl", append([]string{"--max-time", "30"}, args...)...)
	cmd.Stdout, cmd.Stderr = c, c
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return c
}

// shows waits until curl has printed a text.
func (c *curling) shows(t *testing.T, text string) {
	t.Helper()
	cluster.Eventually(t, 10*time.Second, "curl shows "+text, func() error {
		if !strings.Contains(c.String(), text) {
			return fmt.Errorf("it shows\n%s", c)
		}
		return nil
	})
}
