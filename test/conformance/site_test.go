package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
	"github.com/comet-push/comet/test/internal/cluster"
	"github.com/comet-push/comet/test/internal/proxy"
)

// The ways to an edge.
const (
	http1   = "http1"
	nginx   = "nginx"
	haproxy = "haproxy"
	http2   = "http2" // over TLS
	h2c     = "h2c"
	https   = "https" // HTTP/1.1 over TLS
)

func ways() []string { return []string{http1, nginx, haproxy, http2, h2c, https} }

const config = `namespaces:
  - {pattern: "/small/**", subscribe: anyone, publish: anyone, messages: 3}
  - {pattern: "/service/**", subscribe: backends, publish: anyone}
  - {pattern: "/**", subscribe: anyone, publish: anyone, messages: 10000, bytes: 32MiB}
`

// world is the processes of one topology.
type world struct {
	topology string
	split    *cluster.Topology
	args     []string // of every process
	tls      cluster.Certificate
}

// site is what a scenario has: doors of edges, and a broker.
type site struct {
	doors  []client.Server
	rest   string // the internal door of a broker
	client http.Client
	// between is how many bytes rest between an edge and a client that does not
	// read, beyond two buffers of the kernel.
	between int
}

func newSite(rest string, doors ...client.Server) *site {
	const idle = 64
	return &site{rest: rest, doors: doors, client: http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: idle}}}
}

func newWorld(t *testing.T, topology string) *world {
	t.Helper()
	w := &world{topology: topology, tls: cluster.NewCertificate(t)}
	w.args = []string{
		"--config=" + cluster.Config(t, config), "--log.format=text",
		"--edge.heartbeat=1s", "--edge.poll-timeout=2s", "--edge.max-interval=30s", "--edge.jsonp",
		"--edge.queue-bytes=512KiB", // a slow reader needs less load
		"--broker.slot-bytes=256MiB",
	}
	if topology == "split" {
		w.split = cluster.Split(t, 0, 3, w.args...)
		w.split.Settle(t)
	}
	return w
}

// edges starts n edges for a way; each of them is everything when the topology
// is one process.
func (w *world) edges(t *testing.T, way string, n int) []*cluster.Process {
	t.Helper()
	args := w.args
	switch way {
	case http2, https:
		args = append(slices.Clip(args), "--edge.tls-cert-file="+w.tls.CertFile, "--edge.tls-key-file="+w.tls.KeyFile)
	case h2c:
		args = append(slices.Clip(args), "--edge.h2c")
	}
	var edges []*cluster.Process
	for range n {
		if w.split == nil {
			edges = append(edges, cluster.Alone(t, args...))
		} else {
			edges = append(edges, w.split.Edge(t, args...))
		}
	}
	return edges
}

// site returns a place of two edges, or of one process.
func (w *world) site(t *testing.T, way string) *site {
	t.Helper()
	n := 1
	if w.split != nil {
		n = 2
	}
	edges := w.edges(t, way, n)
	s := newSite(w.rest(edges))
	if way == nginx || way == haproxy {
		s.between = 8 << 20
	}
	for _, edge := range edges {
		s.doors = append(s.doors, w.door(t, way, edge))
	}
	return s
}

// rest is the door to publish at.
func (w *world) rest(edges []*cluster.Process) string {
	if w.split != nil {
		return w.split.Brokers[0].Internal
	}
	return edges[0].Internal
}

// door is the way to one edge.
func (w *world) door(t *testing.T, way string, edge *cluster.Process) client.Server {
	t.Helper()
	switch way {
	case nginx:
		return client.Server{URL: "http://" + proxy.Nginx(t, []*cluster.Process{edge})}
	case haproxy:
		return client.Server{URL: "http://" + proxy.HAProxy(t, []*cluster.Process{edge})}
	case http2, https:
		return client.Server{URL: "https://" + edge.HTTP, HTTP2: way == http2, Roots: w.tls.Roots}
	}
	return client.Server{URL: "http://" + edge.HTTP, HTTP2: way == h2c}
}

// publish publishes JSON and returns its position.
func (s *site) publish(channel, data string) (uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	body := fmt.Sprintf(`{"channel":%q,"data":%s}`, channel, data)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.rest+"/v1/publish", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	var reply struct{ Position string }
	if err := s.call(req, &reply); err != nil {
		return 0, fmt.Errorf("publish to %s: %w", channel, err)
	}
	return strconv.ParseUint(reply.Position, 10, 64)
}

// number publishes numbered messages, from up to but not including to, each
// with so many bytes of filling.
func (s *site) number(channel string, from, to, filling int) error {
	for n := from; n < to; n++ {
		if _, err := s.publish(channel, numbered(n, filling)); err != nil {
			return err
		}
	}
	return nil
}

func numbered(n, filling int) string {
	return fmt.Sprintf(`{"n":%d,"filling":"%s"}`, n, bytes.Repeat([]byte("x"), filling))
}

// history returns the data of all that is retained.
func (s *site) history(t *testing.T, channel string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	query := url.Values{"channel": {channel}, "limit": {"1000"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.rest+"/v1/history?"+query.Encode(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Messages []struct{ Data json.RawMessage }
	}
	if err := s.call(req, &reply); err != nil {
		t.Fatalf("history of %s: %v", channel, err)
	}
	var data []string
	for _, m := range reply.Messages {
		data = append(data, string(m.Data))
	}
	return data
}

func (s *site) call(req *http.Request, reply any) error {
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.300s", resp.Status, text)
	}
	return json.Unmarshal(text, reply)
}

// channel is one that nobody else uses.
func channel(t *testing.T, prefix string) string {
	t.Helper()
	return prefix + "/" + strings.ReplaceAll(t.Name(), " ", "-") + "/" + strconv.FormatInt(time.Now().UnixNano(), 36)
}
