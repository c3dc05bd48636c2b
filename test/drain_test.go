package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/cluster"
)

// polling is a Bayeux client of long-polling.
type polling struct {
	edge, id string
}

// send sends a message and returns the reply to it.
func (p *polling) send(t *testing.T, m map[string]any) (reply struct {
	Successful bool
	ClientID   string
	Error      string
	Advice     *struct{ Interval int }
},
) {
	t.Helper()
	m["clientId"], m["connectionType"] = p.id, "long-polling"
	body, err := json.Marshal([]any{m})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+p.edge+"/cometd", "application/json", strings.NewReader(string(body)))
	if err != nil {
		t.Error(err)
		return reply
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	var replies []json.RawMessage
	if err := json.Unmarshal(text, &replies); err != nil || len(replies) == 0 {
		t.Errorf("%v: %s", err, text)
		return reply
	}
	if err := json.Unmarshal(replies[len(replies)-1], &reply); err != nil {
		t.Error(err)
	}
	return reply
}

func (p *polling) open(t *testing.T) {
	t.Helper()
	p.id = p.send(t, map[string]any{"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []string{"long-polling"}}).ClientID
	p.send(t, map[string]any{"channel": "/meta/subscribe", "subscription": "/drained"})
	p.connect(t)
}

func (p *polling) connect(t *testing.T) (advised bool) {
	t.Helper()
	reply := p.send(t, map[string]any{"channel": "/meta/connect"})
	if !reply.Successful {
		t.Errorf("a connect was refused: %+v", reply)
	}
	return reply.Advice != nil && reply.Advice.Interval > 0
}

// TestDrainEdge drains an edge by comet drain, with clients on it, while another
// serves: they go on there, and the drained one stays until it is stopped.
func TestDrainEdge(t *testing.T) {
	t.Parallel()
	const polls, streams = 120, 40
	c := cluster.Split(t, 2, 2)
	var clients []*polling
	var waiting sync.WaitGroup
	for range polls {
		p := &polling{edge: c.Edges[0].HTTP}
		p.open(t)
		clients = append(clients, p)
		waiting.Go(func() {
			if !p.connect(t) {
				t.Error("a client was not sent away")
			}
		})
	}
	for range streams {
		resp, err := http.Get("http://" + c.Edges[0].HTTP + "/channels/drained?transport=sse")
		if err != nil {
			t.Fatal(err)
		}
		waiting.Go(func() {
			defer func() { _ = resp.Body.Close() }()
			var last string
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				if lines.Text() != "" {
					last = lines.Text()
				}
			}
			if err := lines.Err(); err != nil || !strings.HasPrefix(last, "retry:") && !strings.Contains(last, `"draining"`) {
				t.Errorf("a stream ended with %q, %v", last, err)
			}
		})
	}
	edges, ok := comet(t, "edges", "--server="+c.Brokers[1].GRPC)
	t.Logf("before:\n%s", edges)
	if want := fmt.Sprintf("edge-0  serving  -     %-8d  0        %d", polls, streams); !ok || !strings.Contains(edges, want) {
		t.Errorf("edges:\n%s\nwant %s", edges, want)
	}
	if out, ok := comet(t, "drain", "edge-7", "--server="+c.Brokers[0].GRPC); ok || !strings.Contains(out, "there are: edge-0, edge-1 (EDGE_UNKNOWN)") {
		t.Errorf("an unknown edge: %s", out)
	}
	out, ok := comet(t, "drain", "edge-0", "--server="+c.Brokers[0].GRPC)
	t.Logf("drain:\n%s", out)
	if want := fmt.Sprintf("%d clients were sent away, %d sessions handed over", polls+streams, polls); !ok || !strings.Contains(out, want) {
		t.Errorf("drain:\n%s\nwant %s", out, want)
	}
	waiting.Wait()
	for _, p := range clients {
		p.edge = c.Edges[1].HTTP
		if reply := p.send(t, map[string]any{"channel": "/meta/subscribe", "subscription": "/more"}); !reply.Successful {
			t.Errorf("at the other edge: %+v", reply)
		}
	}
	if out, ok := comet(t, "drain", "edge-1", "--server="+c.Brokers[0].GRPC); ok || !strings.Contains(out, "ORDER_REFUSED") {
		t.Errorf("the last edge: %s", out)
	}
	if resp, err := http.Get("http://" + c.Edges[0].Internal + "/readyz"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the drained edge is ready: %v, %v", resp, err)
	}
	edges, _ = comet(t, "edges", "--server="+c.Brokers[1].GRPC)
	t.Logf("after:\n%s", edges)
	if want := fmt.Sprintf("edge-0  draining  -     0         0        0\nedge-1  serving   -     %d", polls); !strings.Contains(edges, want) {
		t.Errorf("edges:\n%s\nwant\n%s", edges, want)
	}
	c.Edges[0].Signal(t, syscall.SIGTERM)
	began := time.Now()
	if err := c.Edges[0].Wait(10 * time.Second); err != nil {
		t.Errorf("it ended with %v", err)
	}
	t.Logf("it ended %v after SIGTERM", time.Since(began))
}

// comet runs the command; ok if it succeeds.
func comet(t *testing.T, args ...string) (out string, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	text, err := exec.CommandContext(ctx, cluster.Binary(t), args...).CombinedOutput()
	return string(text), err == nil
}
