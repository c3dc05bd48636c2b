package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// TestBadInput sends what must be refused, and checks that each refusal says
// why, and that a session beside it goes on undisturbed.
func TestBadInput(t *testing.T) {
	p := cluster.Alone(t, quick...)
	witness := handshake(t, p)
	subscribe(t, p, witness, "/witness")

	t.Run("bayeux", func(t *testing.T) { badBayeux(t, p) })
	t.Run("rest", func(t *testing.T) { badREST(t, p) })
	t.Run("cut", func(t *testing.T) { cutBody(t, p) })

	// The witness still receives what is published.
	status, reply := post(t, "http://"+p.Internal+"/v1/publish", "application/json", `{"channel":"/witness","data":1}`)
	if status != http.StatusOK {
		t.Fatalf("publish after bad input: %d %s", status, reply)
	}
	got := connect(t, p, witness)
	if !strings.Contains(got, `"channel":"/witness"`) {
		got = connect(t, p, witness) // the first connect is never held
	}
	if !strings.Contains(got, `"channel":"/witness","data":1`) {
		t.Errorf("the session beside got %s", got)
	}
}

func badBayeux(t *testing.T, p *cluster.Process) {
	id := handshake(t, p)
	message := func(rest string) string { return fmt.Sprintf(`[{"clientId":%q,"id":"1",%s}]`, id, rest) }
	tests := []struct {
		name, body string
		status     int
		want       string // part of the answer
	}{
		{"malformed", `[{"channel":`, 400, `"reason":"JSON_INVALID"`},
		{"not JSON", `hello`, 400, `"reason":"JSON_INVALID"`},
		{"empty batch", `[]`, 400, `"reason":`},
		{"2 MiB", message(`"channel":"/a","data":"` + strings.Repeat("x", 2<<20) + `"`), 413, `"reason":"MESSAGE_TOO_LARGE"`},
		{"10,000 messages", "[" + strings.Repeat(`{"channel":"/a"},`, 9999) + `{"channel":"/a"}]`, 400, `"reason":"BATCH_TOO_LARGE"`},
		{"deep nesting", message(`"channel":"/a","data":` + strings.Repeat("[", 500) + strings.Repeat("]", 500)), 400, `"reason":"JSON_INVALID"`},
		{"bad channel", message(`"channel":"a b","data":1`), 200, `405::channel_invalid`},
		{"empty segment", message(`"channel":"/a//b","data":1`), 200, `405::channel_invalid`},
		{"long channel", message(`"channel":"/` + strings.Repeat("x", 300) + `","data":1`), 200, `405::channel_invalid`},
		{"no channel", message(`"data":1`), 200, `400::channel_missing`},
		{"publish to a pattern", message(`"channel":"/a/**","data":1`), 200, `"successful":false`},
		{"publish to meta", message(`"channel":"/meta/x","data":1`), 200, `channel_create_denied`},
		{"publish without data", message(`"channel":"/a"`), 200, `402:data:Missing required parameter`},
		{"subscribe to meta", message(`"channel":"/meta/subscribe","subscription":"/meta/**"`), 200, `403:denied_by_security_policy:subscribe_denied`},
		{"subscribe to nothing", message(`"channel":"/meta/subscribe"`), 200, `403::subscription_missing`},
		{"subscribe to an inner wildcard", message(`"channel":"/meta/subscribe","subscription":"/a/*/b"`), 200, `403::subscription_invalid`},
		{"unknown client", `[{"channel":"/meta/connect","clientId":"nobody","id":"1","connectionType":"long-polling"}]`, 200, `402::session_unknown`},
		{"unknown client publishes", `[{"channel":"/a","clientId":"nobody","id":"1","data":1}]`, 200, `402::session_unknown`},
		{"bad version", `[{"channel":"/meta/handshake","version":"2.0","supportedConnectionTypes":["long-polling"]}]`, 200, `"successful":false`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, got := post(t, "http://"+p.HTTP+"/cometd", "application/json", tt.body)
			if status != tt.status || !strings.Contains(got, tt.want) {
				t.Errorf("got %d %.300s, want %d with %s", status, got, tt.status, tt.want)
			}
		})
	}
	t.Run("charset", func(t *testing.T) {
		status, got := post(t, "http://"+p.HTTP+"/cometd", "application/json; charset=utf-16", `[]`)
		if status != http.StatusUnsupportedMediaType || !strings.Contains(got, "CONTENT_TYPE_UNSUPPORTED") {
			t.Errorf("got %d %s", status, got)
		}
	})
}

func badREST(t *testing.T, p *cluster.Process) {
	tests := []struct {
		name, contentType, body string
		status                  int
		want                    string
	}{
		{"unknown field", "application/json", `{"channel":"/a","data":1,"colour":"red"}`, 400, "colour"},
		{"malformed", "application/json", `{"channel":"/a","data":`, 400, `"reason":`},
		{"no data", "application/json", `{"channel":"/a"}`, 400, `"reason":"DATA_INVALID"`},
		{"pattern", "application/json", `{"channel":"/a/**","data":1}`, 400, `"reason":"CHANNEL_INVALID"`},
		{"meta", "application/json", `{"channel":"/meta/x","data":1}`, 400, `"reason":"CHANNEL_INVALID"`},
		{"2 MiB", "application/json", `{"channel":"/a","data":"` + strings.Repeat("x", 2<<20) + `"}`, 413, `"reason":"MESSAGE_TOO_LARGE"`},
		{"deep nesting", "application/json", `{"channel":"/a","data":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, 400, `"reason":`},
		{"content type", "text/xml", `<a/>`, 415, `"reason":"CONTENT_TYPE_UNSUPPORTED"`},
		{"long key", "application/json", `{"channel":"/a","data":1,"idempotencyKey":"` + strings.Repeat("k", 200) + `"}`, 400, `"reason":`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, got := post(t, "http://"+p.Internal+"/v1/publish", tt.contentType, tt.body)
			if status != tt.status || !strings.Contains(got, tt.want) {
				t.Errorf("got %d %.300s, want %d with %s", status, got, tt.status, tt.want)
			}
		})
	}
	t.Run("unknown parameter", func(t *testing.T) {
		resp, err := http.Get("http://" + p.Internal + "/v1/history?channel=/a&colour=red")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "colour") {
			t.Errorf("got %s %s", resp.Status, body)
		}
	})
}

// cutBody sends half a body and closes its half of the connection.
func cutBody(t *testing.T, p *cluster.Process) {
	conn, err := net.Dial("tcp", p.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "POST /cometd HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[{\"channel\":")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer to a body that was cut: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got %s", resp.Status)
	}
}

// TestBadConfig starts processes that must refuse their configuration, or keep
// trying while saying what they miss.
func TestBadConfig(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"unknown key", []string{"--config=" + cluster.Config(t, "edge:\n  pol-timeout: 3s\n")}, "pol-timeout"},
		{"bad value", []string{"--edge.poll-timeout=soon"}, "poll-timeout"},
		{"bad endpoint", []string{"--etcd.endpoints=::::"}, "etcd.endpoints"},
		{"unknown target", []string{"--target=moon"}, "moon"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := cluster.New(t, "bad", "all", tt.args...)
			p.Start(t)
			if err := p.Wait(10 * time.Second); err == nil {
				t.Errorf("it ended without an error")
			}
			if !strings.Contains(p.Log(), tt.want) {
				t.Errorf("its last words do not name %q:\n%s", tt.want, p.Log())
			}
		})
	}
	t.Run("etcd is down", func(t *testing.T) {
		etcd := cluster.NewEtcd(t)
		p := cluster.New(t, "early", "all", "--etcd.endpoints="+etcd.URL, "--config="+cluster.Config(t, cluster.Open))
		p.Start(t)
		cluster.Eventually(t, 10*time.Second, "it says what it waits for", func() error {
			if !strings.Contains(p.Log(), etcd.URL) {
				return fmt.Errorf("its log does not name %s", etcd.URL)
			}
			return nil
		})
		etcd.Start(t) // and then it comes
		p.Ready(t, 20*time.Second)
	})
}

// post sends a body and returns the status and the answer.
func post(t testing.TB, url, contentType, body string) (int, string) {
	t.Helper()
	status, answer, err := tryPost(url, contentType, body)
	if err != nil {
		t.Fatalf("post %s: %v", url, err)
	}
	return status, answer
}

// tryPost is post for callers that expect failures.
func tryPost(url, contentType, body string) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// handshake makes a session and returns its clientId.
func handshake(t testing.TB, p *cluster.Process) string {
	t.Helper()
	_, got := post(t, "http://"+p.HTTP+"/cometd", "application/json",
		`[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"],"id":"1"}]`)
	var replies []struct{ ClientID string }
	if err := json.Unmarshal([]byte(got), &replies); err != nil || len(replies) != 1 || replies[0].ClientID == "" {
		t.Fatalf("handshake: %s", got)
	}
	return replies[0].ClientID
}

// subscribe subscribes a session to a channel.
func subscribe(t testing.TB, p *cluster.Process, id, channel string) {
	t.Helper()
	_, got := post(t, "http://"+p.HTTP+"/cometd", "application/json",
		fmt.Sprintf(`[{"channel":"/meta/subscribe","subscription":%q,"clientId":%q,"id":"2"}]`, channel, id))
	if !strings.Contains(got, `"successful":true`) {
		t.Fatalf("subscribe: %s", got)
	}
}

// connect polls once and returns the answer.
func connect(t testing.TB, p *cluster.Process, id string) string {
	t.Helper()
	answer, err := tryConnect(p, id)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// tryConnect is connect for callers that expect failures.
func tryConnect(p *cluster.Process, id string) (string, error) {
	_, answer, err := tryPost("http://"+p.HTTP+"/cometd", "application/json",
		fmt.Sprintf(`[{"channel":"/meta/connect","connectionType":"long-polling","clientId":%q,"id":"3"}]`, id))
	return answer, err
}
