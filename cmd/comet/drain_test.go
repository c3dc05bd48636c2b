package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
)

// post sends Bayeux messages to an edge.
func post(t *testing.T, url, body string) (reply []map[string]any) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	if err := json.Unmarshal(text, &reply); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	return reply
}

// TestDrain drains the edge of a server that has everything in one process, with
// a client.
func TestDrain(t *testing.T) {
	p := startDev(t)
	server, url := p.door("gRPC"), p.door("Browsers")
	comet := func(ctx context.Context, args string) (int, string) {
		var out output
		code := execute(ctx, append(strings.Fields(args), "--server="+server), nil, &out, &out)
		return code, out.String()
	}
	shake := post(t, url, `[{"channel":"/meta/handshake","version":"1.0","supportedConnectionTypes":["long-polling"]}]`)
	connect := fmt.Sprintf(`[{"channel":"/meta/connect","clientId":%q,"connectionType":"long-polling"}]`, shake[0]["clientId"])
	post(t, url, connect)
	held := make(chan []map[string]any, 1)
	go func() { held <- post(t, url, connect) }()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx  context.Context
		args string
		code int
		want string
	}{
		{t.Context(), "edges", 0, `alone  serving  -     1         0        0`},
		{t.Context(), "edges -o json", 0, `"EDGE_STATE_SERVING"`},
		{t.Context(), "drain moon", 1, "there is no edge named moon; there are: alone (EDGE_UNKNOWN)"},
		{t.Context(), "drain", 1, "accepts 1 arg(s), received 0"},
		{t.Context(), "drain alone", 1, "there is no other edge that its clients could go to; start one, or force it (ORDER_REFUSED)"},
		{ended, "drain alone --force", 1, "canceled"},
		{t.Context(), "drain alone --force", 0, "alone is drained, after "},
		{t.Context(), "drain alone", 0, "1 clients were sent away, 1 sessions handed over; stop it, or start it again"},
		{t.Context(), "edges", 0, `alone  draining  -     0         0        0`},
	} {
		if code, text := comet(tt.ctx, tt.args); code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("comet %s: code %d\n%.2000s\nwant %d %q", tt.args, code, text, tt.code, tt.want)
		}
	}
	if reply := <-held; len(reply) != 1 || reply[0]["advice"] == nil {
		t.Errorf("the client that waited was told %v", reply)
	}
	if logs := p.logs.String(); !strings.Contains(logs, "is drained") {
		t.Errorf("the log says nothing of it:\n%s", logs)
	}
	began := time.Now()
	p.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("after it SIGTERM took %v", took)
	}
}

func TestEdgesTable(t *testing.T) {
	got := edgesTable(&adminv1.ListEdgesResponse{Stale: true, Edges: []*adminv1.EdgeInfo{
		{Name: "edge-0", Zone: "a", State: adminv1.EdgeState_EDGE_STATE_SERVING, Clients: &adminv1.EdgeClients{Sessions: 1234, Sockets: 5, Readers: 6}},
		{Name: "edge-1", State: adminv1.EdgeState_EDGE_STATE_LEAVING},
	}})
	want := `EDGE    STATE    ZONE  SESSIONS  SOCKETS  READERS
edge-0  serving  a     1234      5        6
edge-1  leaving  -     ?         ?        ?

etcd cannot be reached: this is as it was seen last
`
	if regexp.MustCompile(` +\n`).ReplaceAllString(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
