package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/test/bufconn"

	"github.com/comet-push/comet/internal/httpd"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/services/edge/internal/pipes"
)

// world is one edge behind a real HTTP server, over memory, with a fake broker.
type world struct {
	t         *testing.T
	service   *Service
	broker    *fakeBroker
	directory *memory.Directory
	metrics   *prometheus.Registry
	doors     *pipes.Listener
	node      *bufconn.Listener // where every node address leads
	stop      context.CancelCauseFunc
	ended     chan error
}

// inWorld runs a test in a bubble with an edge that runs.
func inWorld(t *testing.T, cfg Config, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg, namespace.Open())
		w.start()
		test(w)
		w.end(context.Canceled)
	})
}

func newWorld(t *testing.T, cfg Config, fallback namespace.Options, list ...namespace.Options) *world {
	t.Helper()
	set, err := namespace.NewSet(list, fallback)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, broker: newFakeBroker(), metrics: prometheus.NewRegistry(), node: bufconn.Listen(1 << 16),
		directory: memory.NewStore(2 * time.Second).Directory(),
		doors:     pipes.Listen(),
		ended:     make(chan error, 1),
	}
	pool := rpc.NewPool(func(ctx context.Context, _ string) (net.Conn, error) { return w.node.DialContext(ctx) })
	t.Cleanup(func() { _ = pool.Close() })
	w.service, err = build(cfg.withDefaults(), Deps{
		Node:      membership.Node{Name: "edge-0", ID: "e0", Addr: "edge-0:7070", Roles: []membership.Role{membership.Edge}},
		Directory: w.directory, Conns: pool, Namespaces: set, Registerer: w.metrics, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.broker.sink = sink{w.service}
	w.service.publisher, w.service.follower, w.service.reads.reader = w.broker, w.broker, w.broker
	w.service.upstream = []run.Component{w.broker}
	return w
}

// start runs the edge behind its door, as a process does.
func (w *world) start() {
	w.startInOrder(func(door, edge run.Component) []run.Component { return []run.Component{door, edge} })
}

func (w *world) startInOrder(order func(door, edge run.Component) []run.Component) {
	ctx, stop := context.WithCancelCause(context.Background())
	w.stop = stop
	door := httpd.NewServer(httpd.ServerConfig{Grace: 5 * time.Second}, w.service.Handler(), w.doors)
	go func() { w.ended <- run.All(ctx, order(run.Named("door", door), run.Named("edge", w.service))...) }()
	synctest.Wait()
}

// end stops the edge for a reason.
func (w *world) end(why error) {
	w.t.Helper()
	w.stop(why)
	if err := <-w.ended; err != nil {
		w.t.Errorf("run: %v", err)
	}
}

// value is the sum of a metric.
func (w *world) value(name string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += number(m)
			}
		}
	}
	return sum
}

func number(m *dto.Metric) float64 {
	return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
}

// letChannelsGo waits until nothing is joined any more for who comes back.
func (w *world) letChannelsGo() {
	time.Sleep(w.service.cfg.Linger + w.service.cfg.JoinTimeout)
	synctest.Wait()
}

// wantQuiet checks that nothing is left of requests that have ended.
func (w *world) wantQuiet() {
	w.t.Helper()
	synctest.Wait()
	if n := w.service.unanswered.n; n != 0 {
		w.t.Errorf("%d exchanges are unanswered", n)
	}
	if n := len(w.service.browsers.by); n != 0 {
		w.t.Errorf("%d browsers are counted", n)
	}
	if n := w.value("comet_edge_connects_held"); n != 0 {
		w.t.Errorf("%v connects are held", n)
	}
}

// browserClient is one Bayeux client of the test.
type browserClient struct {
	w        *world
	http     *http.Client
	clientID string
	id       int
	closed   bool // the server closed the connection behind the last answer
}

type message map[string]any

func (w *world) client() *browserClient {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return w.doors.Dial(ctx) }}
	w.t.Cleanup(transport.CloseIdleConnections)
	jar, _ := cookiejar.New(nil)
	return &browserClient{w: w, http: &http.Client{Transport: transport, Jar: jar}}
}

// tab is another client of the same browser.
func (b *browserClient) tab() *browserClient { return &browserClient{w: b.w, http: b.http} }

// post sends messages in one request and returns the status and the answer.
func (b *browserClient) post(ctx context.Context, messages ...message) (int, []message, error) {
	for _, m := range messages {
		b.id++
		m["id"] = fmt.Sprint(b.id)
		if _, given := m["clientId"]; !given && b.clientID != "" {
			m["clientId"] = b.clientID
		}
	}
	body, _ := json.Marshal(messages)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://edge.test/cometd", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := b.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b.closed = res.Close
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return res.StatusCode, nil, err
	}
	var answer []message
	if err := json.Unmarshal(text, &answer); err != nil {
		return res.StatusCode, nil, fmt.Errorf("%w in %s", err, text)
	}
	return res.StatusCode, answer, nil
}

// send is post that has to succeed.
func (b *browserClient) send(messages ...message) []message {
	b.w.t.Helper()
	status, answer, err := b.post(b.w.t.Context(), messages...)
	if err != nil || status != http.StatusOK {
		b.w.t.Fatalf("%v: status %d, %v", messages, status, err)
	}
	return answer
}

func (b *browserClient) handshake() message {
	b.w.t.Helper()
	reply := b.send(message{"channel": "/meta/handshake", "version": "1.0", "supportedConnectionTypes": []string{"long-polling"}})[0]
	b.clientID, _ = reply["clientId"].(string)
	return reply
}

// open handshakes, subscribes and connects for the first time.
func (b *browserClient) open(channels ...string) *browserClient {
	b.w.t.Helper()
	b.handshake()
	if len(channels) > 0 {
		b.want(b.send(message{"channel": "/meta/subscribe", "subscription": channels}))
	}
	b.connect()
	return b
}

func connect() message {
	return message{"channel": "/meta/connect", "connectionType": "long-polling"}
}

// connect returns the events, and the connect's reply.
func (b *browserClient) connect() ([]message, message) {
	b.w.t.Helper()
	answer := b.send(connect())
	return answer[:len(answer)-1], answer[len(answer)-1]
}

// poll is a connect in the background.
type poll struct {
	done   chan struct{}
	status int
	answer []message
	err    error
	at     time.Time // when it was answered
}

func (b *browserClient) poll(ctx context.Context) *poll {
	p := &poll{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.status, p.answer, p.err = b.post(ctx, connect())
		p.at = time.Now()
	}()
	synctest.Wait()
	return p
}

// events returns the events of the answer, once it has come.
func (p *poll) events(t *testing.T) []message {
	t.Helper()
	<-p.done
	if p.err != nil || p.status != http.StatusOK || p.answer[len(p.answer)-1]["channel"] != "/meta/connect" {
		t.Fatalf("poll: status %d, %v, %v", p.status, p.answer, p.err)
	}
	return p.answer[:len(p.answer)-1]
}

// want checks that all replies say success.
func (b *browserClient) want(answer []message) {
	b.w.t.Helper()
	for _, m := range answer {
		if m["successful"] != true {
			b.w.t.Fatalf("refused: %v", m)
		}
	}
}

func (b *browserClient) publish(channel string, data any) message {
	b.w.t.Helper()
	return b.send(message{"channel": channel, "data": data})[0]
}

// summary writes events as channel=data.
func summary(events []message) string {
	var all []string
	for _, e := range events {
		data, _ := json.Marshal(e["data"])
		all = append(all, fmt.Sprintf("%s=%s", e["channel"], data))
	}
	return strings.Join(all, " ")
}
