package wire_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comet-push/comet/cmd/comet/wire"
	"github.com/comet-push/comet/internal/comettest"
	"github.com/comet-push/comet/internal/config"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/telemetry"
)

var update = flag.Bool("update", false, "write testdata anew")

// client is somebody outside of the process.
func client(t *testing.T, n *comettest.Network) *http.Client {
	t.Helper()
	dial := n.Dial("client")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) }}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func dev() config.Config {
	cfg := config.Dev()
	cfg.Node.Name = "alone"
	return cfg
}

// start runs a process until the test ends, and waits until it is ready.
func start(t *testing.T, cfg config.Config, env wire.Env) (p *wire.Process, stop func()) {
	t.Helper()
	p, err := wire.New(cfg, env)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	// No sync.OnceFunc: who waits for its mutex keeps virtual time from passing.
	stop = func() {
		cancel(run.ErrDraining)
		<-ended
	}
	t.Cleanup(stop)
	for range 1000 {
		if ready(p) {
			return p, stop
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not ready: %v", p.Ready())
	return nil, nil
}

func ready(p *wire.Process) bool {
	for _, err := range p.Ready() {
		if err != nil {
			return false
		}
	}
	return true
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return answer(t, resp)
}

func post(t *testing.T, c *http.Client, url, body string) (int, string) {
	t.Helper()
	resp, err := c.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return answer(t, resp)
}

func answer(t *testing.T, resp *http.Response) (int, string) {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestAlone drives everything in one process through its HTTP doors.
func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := comettest.NewNetwork()
		start(t, dev(), wire.Env{Listen: n.Listen})
		c := client(t, n)
		const internal, edge = "http://127.0.0.1:8081", "http://127.0.0.1:8080"

		for _, tt := range []struct {
			path   string
			status int
			want   string
		}{
			{internal + "/readyz", 200, "ready"},
			{internal + "/livez", 200, "ok"},
			{internal + "/v1/openapi.json", 200, "/v1/publish"},
			{internal + "/v1/presence/count?channel=/a", 200, `{"count":"0"}`},
			{internal + "/v1/sessions", 200, `{"sessions":[]}`},
			{internal + "/v1/history?channel=/a", 200, `{"messages":[],"cursor":"`},
			{internal + "/v1/history?channel=a", 400, "CHANNEL_INVALID"},
			{internal + "/v1/channels", 200, `{"channels":[],"nextPageToken":""}`},
			{internal + "/v1/admin/slots?broker=alone", 200, `"stale":false`},
			{internal + "/v1/admin/slots?state=SLOT_STATE_LEADERLESS", 200, `{"slots":[],`},
			{internal + "/v1/admin/slots?broker=nobody", 404, "BROKER_UNKNOWN"},
			{internal + "/v1/admin/slots/move", 405, "METHOD_NOT_ALLOWED"},
			{internal + "/v1/admin/brokers", 200, `"name":"alone"`},
			{internal + "/v1/admin/edges", 200, `"clients":{"sessions":0,"sockets":0,"readers":0}`},
			{internal + "/v1/sessions/subscribe", 405, "METHOD_NOT_ALLOWED"},
			{edge + "/", 200, "<html"},
		} {
			if status, text := get(t, c, tt.path); status != tt.status || !strings.Contains(text, tt.want) {
				t.Errorf("%s: %d %s", tt.path, status, text)
			}
		}
		// 64-bit integers, key order, escapes and spaces survive.
		const data = `{"z": 9007199254740993, "a":"\u00e9\/", "f":1.50}`
		status, text := post(t, c, internal+"/v1/publish", `{"channel":"/a","data":`+data+`,"ext":{"k":1}}`)
		if status != 200 || !strings.Contains(text, `"duplicate":false`) {
			t.Fatalf("publish: %d %s", status, text)
		}
		if status, text = get(t, c, internal+"/v1/history?channel=/a"); status != 200 ||
			!strings.Contains(text, `"data":`+data+`,"ext":{"k":1}`) {
			t.Errorf("history: %d %s", status, text)
		}
		for path, order := range map[string][2]string{
			"edges/drain":     {`{"edge":"alone"}`, "ORDER_REFUSED"},
			"slots/move":      {`{"slot":7,"broker":"alone"}`, `"slot":7`},
			"slots/recover":   {`{"slot":7,"acceptDataLoss":true}`, "ORDER_REFUSED"},
			"brokers/drain":   {`{"broker":"alone"}`, "ORDER_REFUSED"},
			"brokers/undrain": {`{"broker":"alone"}`, `"state":"BROKER_STATE_SERVING"`},
		} {
			if _, text := post(t, c, internal+"/v1/admin/"+path, order[0]); !strings.Contains(text, order[1]) {
				t.Errorf("%s: %s", path, text)
			}
		}
		for path, order := range map[string][2]string{
			"disconnect":           {`{"user":"ann"}`, `{"disconnected":0}`},
			"sessions/subscribe":   {`{"user":"ann","channels":["/a"]}`, `{"sessions":0}`},
			"sessions/unsubscribe": {`{"session":"x","channels":["/a"]}`, "SESSION_UNKNOWN"},
		} {
			if _, text := post(t, c, internal+"/v1/"+path, order[0]); !strings.Contains(text, order[1]) {
				t.Errorf("%s: %s", path, text)
			}
		}
		for body, want := range map[string]string{
			`{"channel":"/a"}`:                            "DATA_INVALID",
			`{"channel":"/a","data":1,"dato":2}`:          `unknown field \"dato\"`,
			`{"channel":"/a","data":1,"data":2}`:          "given twice",
			`{"channel":"/meta/x","data":1}`:              "CHANNEL_INVALID",
			`{"channel":"/a","data":1,"ext":[]}`:          "DATA_INVALID",
			`{"channel":"/a","data":` + deep(65) + `}`:    "JSON_INVALID",
			`{"channel":"/a","data":"` + long(600) + `"}`: "MESSAGE_TOO_LARGE",
		} {
			if status, text := post(t, c, internal+"/v1/publish", body); status/100 != 4 || !strings.Contains(text, want) {
				t.Errorf("%.60s: %d %s, want %s", body, status, text, want)
			}
		}
	})
}

func deep(n int) string   { return strings.Repeat("[", n) + strings.Repeat("]", n) }
func long(kib int) string { return strings.Repeat("x", kib<<10) }

// TestRESTSubscribe reads the lines of a stream until a drain ends it with a
// reason.
func TestRESTSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := comettest.NewNetwork()
		_, stop := start(t, dev(), wire.Env{Listen: n.Listen})
		c := client(t, n)
		resp, err := c.Get("http://127.0.0.1:8081/v1/subscribe?channels=/a&channels=/b/**")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if kind := resp.Header.Get("Content-Type"); kind != "application/x-ndjson" {
			t.Errorf("content type %s", kind)
		}
		lines := json.NewDecoder(resp.Body)
		next := func() (line struct{ Result, Error map[string]json.RawMessage }) {
			t.Helper()
			if err := lines.Decode(&line); err != nil {
				t.Fatal(err)
			}
			return line
		}
		if line := next(); line.Result["open"] == nil {
			t.Fatalf("the first line is %v", line)
		}
		post(t, c, "http://127.0.0.1:8081/v1/publish", "{\"channel\":\"/b/c\",\"data\":{\n\"a\" : 1\n}}")
		if line := next(); !strings.Contains(string(line.Result["message"]), `"data":{ "a" : 1 }`) {
			t.Errorf("the message is %s", line.Result["message"])
		}
		go stop()
		for {
			line := next()
			if line.Result["end"] != nil || line.Error != nil {
				if !strings.Contains(fmt.Sprintf("%s", line), "raining") {
					t.Errorf("the stream ended with %s", line)
				}
				break
			}
		}
		synctest.Wait()
	})
}

// TestDoorsOfATarget shows what a process with one service offers.
func TestDoorsOfATarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := comettest.NewNetwork()
		cfg := dev()
		cfg.Target = config.Broker
		p, _ := start(t, cfg, wire.Env{Listen: n.Listen})
		if at := p.Addrs(); at.Edge != "" || at.GRPC == "" || at.Internal == "" {
			t.Errorf("doors %+v", at)
		}
		if status, text := get(t, client(t, n), "http://127.0.0.1:8081/v1/sessions"); status != 501 || !strings.Contains(text, "not served by this process") {
			t.Errorf("%d %s", status, text)
		}
	})
}

// TestDrainAnswersHeldConnects proves that SIGTERM's way through the process is
// quick when nothing keeps it, and lets nobody hang.
func TestDrainAnswersHeldConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := comettest.NewNetwork()
		_, stop := start(t, dev(), wire.Env{Listen: n.Listen})
		c := client(t, n)
		const door = "http://127.0.0.1:8080/cometd"
		_, text := post(t, c, door, `[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]`)
		var replies []struct{ ClientID string }
		if err := json.Unmarshal([]byte(text), &replies); err != nil || len(replies) != 1 {
			t.Fatalf("%s: %v", text, err)
		}
		connect := fmt.Sprintf(`[{"channel":"/meta/connect","clientId":%q,"connectionType":"long-polling"}]`, replies[0].ClientID)
		post(t, c, door, connect) // the first one is not held
		held := make(chan string, 1)
		go func() {
			_, text := post(t, c, door, connect)
			held <- text
		}()
		time.Sleep(time.Second)
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("the drain took %v", took)
		}
		if text := <-held; !strings.Contains(text, `"successful":`) || !strings.Contains(text, `"advice"`) {
			t.Errorf("a held connect was answered %s", text)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	busy := func(string) (net.Listener, error) { return nil, &net.OpError{Op: "listen", Err: syscall.EADDRINUSE} }
	for _, tt := range []struct {
		name   string
		change func(*config.Config)
		env    wire.Env
		want   string
	}{
		{"busy port", func(*config.Config) {}, wire.Env{Listen: busy}, "somebody else listens on 127.0.0.1:9090; end that process, or choose another address with --grpc.listen="},
		{"namespace", func(c *config.Config) { c.Namespaces = []namespace.Options{{Pattern: "/a", Publish: "all"}} }, wire.Env{}, `publish: "all" is not one of`},
		{"target", func(c *config.Config) { c.Target = "moon" }, wire.Env{}, `"moon" is not one of all, edge, broker, presence`},
		{"etcd", func(c *config.Config) { c.Etcd.Endpoints = []string{"::::"} }, wire.Env{}, "etcd.endpoints"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := dev()
			tt.change(&cfg)
			if _, err := wire.New(cfg, tt.env); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
		})
	}
}

// TestDoorsCloseWhenNewFails: the second door is busy, the first must not stay.
func TestDoorsCloseWhenNewFails(t *testing.T) {
	n := comettest.NewNetwork()
	if _, err := n.Listen("127.0.0.1:8081"); err != nil {
		t.Fatal(err)
	}
	var opened []string
	listen := func(addr string) (net.Listener, error) {
		l, err := n.Listen(addr)
		if err == nil {
			opened = append(opened, addr)
		}
		return l, err
	}
	if _, err := wire.New(dev(), wire.Env{Listen: listen}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("err = %v", err)
	}
	if want := []string{"127.0.0.1:9090"}; !slices.Equal(opened, want) {
		t.Fatalf("opened %v, want %v", opened, want)
	}
	if _, err := n.Dial("client")(t.Context(), opened[0]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialing a door that should be closed: %v", err)
	}
}

// TestMetrics compares every metric of Comet with testdata/metrics.txt, on
// which dashboards and docs rely; -update writes it.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		catalogue := &telemetry.Catalogue{Registry: prometheus.NewRegistry()}
		cfg := dev()
		cfg.Broker.DataDir = t.TempDir()
		start(t, cfg, wire.Env{Listen: comettest.NewNetwork().Listen, Metrics: catalogue})
		got := strings.Join(catalogue.Lines(), "\n") + "\n"
		const path = "testdata/metrics.txt"
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("the metrics changed; if that is meant, run with -update and change docs/operations.md (-want +got):\n%s", diff)
		}
	})
}
