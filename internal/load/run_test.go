package load

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeServer speaks sse, stream and publishing by REST as ARCHITECTURE.md has
// them, and can do wrong.
type fakeServer struct {
	faults

	mu   sync.Mutex
	news *sync.Cond
	log  []logged
	keys map[string]int
	over bool

	secure bool
	roots  *x509.CertPool // that know a secure server
}

// faults are what a fakeServer does wrong.
type faults struct {
	// skip is a position that nobody gets, twice one that everybody gets twice.
	skip, twice int
	// swap is a position that everybody gets behind the next.
	swap int
	// cut is after how many messages a connection is cut.
	cut int
	// refuse is how many requests for a stream are refused at first.
	refuse int
}

type logged struct {
	channel string
	data    json.RawMessage
}

// start serves until the test ends, and returns a config that fits.
func (s *fakeServer) start(t *testing.T) Config {
	t.Helper()
	s.news = sync.NewCond(&s.mu)
	s.keys = map[string]int{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/publish", s.publish)
	mux.HandleFunc("GET /channels/{channel...}", s.stream)
	server := httptest.NewUnstartedServer(mux)
	if s.secure {
		server.StartTLS()
		s.roots = x509.NewCertPool()
		s.roots.AddCert(server.Certificate())
	} else {
		server.Start()
	}
	t.Cleanup(func() {
		s.mu.Lock()
		s.over = true
		s.news.Broadcast()
		s.mu.Unlock()
		server.CloseClientConnections()
		server.Close()
	})
	cfg := Defaults(Broadcast)
	cfg.URL, cfg.REST, cfg.Transport = server.URL, server.URL, "sse"
	cfg.Clients, cfg.Channels, cfg.Rate = 20, 2, 200
	cfg.Duration, cfg.Warmup = 300*time.Millisecond, 0
	return cfg
}

func (s *fakeServer) publish(w http.ResponseWriter, r *http.Request) {
	var m struct {
		Channel, IdempotencyKey string
		Data                    json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys[m.IdempotencyKey] == 0 {
		s.log = append(s.log, logged{m.Channel, m.Data})
		s.keys[m.IdempotencyKey] = len(s.log)
		s.news.Broadcast()
	}
	_, _ = fmt.Fprintf(w, `{"position":"%d"}`, s.keys[m.IdempotencyKey])
}

func (s *fakeServer) stream(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse > 0 {
		s.refuse--
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"reason":"UNAVAILABLE","detail":"come back"}`))
		return
	}
	write := func(text string) {
		if r.URL.Query().Get("transport") == "sse" {
			text = "data: " + text + "\n"
		}
		_, _ = w.Write([]byte(text + "\n"))
	}
	at := len(s.log)
	if since, err := strconv.Atoi(r.URL.Query().Get("since")); err == nil {
		at = since
	}
	write(fmt.Sprintf(`{"type":"open","cursor":%d,"heartbeat":25}`, at))
	for sent := 0; !s.over && r.Context().Err() == nil; {
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		for at == len(s.log) && !s.over {
			s.news.Wait()
		}
		for ; at < len(s.log); at++ {
			if s.log[at].channel != "/"+r.PathValue("channel") {
				continue
			}
			for _, position := range s.wrong(at + 1) {
				m := s.log[position-1]
				write(fmt.Sprintf(`{"channel":%q,"position":%d,"data":%s}`, m.channel, position, m.data))
			}
			if sent++; sent == s.cut {
				return
			}
		}
	}
}

// wrong returns the positions that are sent in place of one. Channels take
// turns, so that the next of the same is two behind.
func (s *fakeServer) wrong(at int) []int {
	switch at {
	case s.skip, s.swap:
		return nil
	case s.twice:
		return []int{at, at}
	case s.swap + 2:
		if s.swap > 0 {
			return []int{at, s.swap}
		}
	}
	return []int{at}
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name      string
		faults    faults
		transport string
		want      Delivery
		sessions  Sessions
	}{
		{name: "sse", transport: "sse", want: Delivery{Expected: 600, Delivered: 600}},
		{name: "stream", transport: "stream", want: Delivery{Expected: 600, Delivered: 600}},
		{name: "lost", faults: faults{skip: 10}, transport: "sse", want: Delivery{Expected: 600, Delivered: 590, Lost: 10, Gaps: 10}},
		{name: "lost at the end", faults: faults{skip: 60}, transport: "sse", want: Delivery{Expected: 600, Delivered: 590, Lost: 10}},
		{name: "repeated", faults: faults{twice: 10}, transport: "stream", want: Delivery{Expected: 600, Delivered: 600, Repeats: 10}},
		{name: "out of order", faults: faults{swap: 10}, transport: "sse", want: Delivery{Expected: 600, Delivered: 600, Late: 10}},
		{
			name: "cut and resumed", faults: faults{cut: 13}, transport: "stream",
			want: Delivery{Expected: 600, Delivered: 600}, sessions: Sessions{Reconnects: 40},
		},
		{
			name: "refused at first", faults: faults{refuse: 7}, transport: "sse",
			want: Delivery{Expected: 600, Delivered: 600}, sessions: Sessions{Retries: 7},
		},
	} {
		for kind, make := range map[string]func(target, []*client, *tally) (worker, error){
			"worker":     newWorker,
			"goroutines": func(t target, c []*client, sum *tally) (worker, error) { return newRoutines(t, c, sum), nil },
		} {
			t.Run(tt.name+", "+kind, func(t *testing.T) {
				t.Parallel()
				cfg := (&fakeServer{faults: tt.faults}).start(t)
				cfg.Transport, cfg.Workers = tt.transport, 2
				result := runWith(t, cfg, make)
				sessions := tt.sessions
				sessions.Established = 20
				compare(t, result, tt.want, sessions)
			})
		}
	}
}

func runWith(t *testing.T, cfg Config, make func(target, []*client, *tally) (worker, error)) *Result {
	t.Helper()
	r, err := newRunner(t.Context(), cfg, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	r.settle, r.still = 20*time.Millisecond, 500*time.Millisecond
	if err := r.makeWorkers(make); err != nil {
		t.Fatal(err)
	}
	result, err := r.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func compare(t *testing.T, result *Result, want Delivery, sessions Sessions) {
	t.Helper()
	got, s := *result.Delivery, result.Sessions
	if got.Delivered > 0 && (got.Latency.Max <= 0 || got.Latency.P50 > got.Latency.P99 || got.PerSecond <= 0 || got.Bytes < 100) {
		t.Errorf("latency %v, %v per second, %v bytes", got.Latency, got.PerSecond, got.Bytes)
	}
	got.Latency, got.PerSecond, got.Bytes = Latency{}, 0, 0
	s.Setup, s.Seconds, s.PerSecond = Latency{}, 0, 0
	if got != want {
		t.Errorf("delivery %+v, want %+v", got, want)
	}
	if s != sessions {
		t.Errorf("sessions %+v, want %+v", s, sessions)
	}
	if result.Tool.CPUSeconds <= 0 || result.Tool.Cores <= 0 {
		t.Errorf("tool %+v", result.Tool)
	}
	var table strings.Builder
	if err := result.WriteTable(&table); err != nil || !strings.Contains(table.String(), fmt.Sprintf("%d of %d,", want.Delivered, want.Expected)) {
		t.Errorf("%v\n%s", err, table.String())
	}
}

func TestHTTPS(t *testing.T) {
	server := &fakeServer{secure: true}
	r, err := newRunner(t.Context(), server.start(t), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	r.target.tls.RootCAs, r.publishers.tls.RootCAs = server.roots, server.roots
	if err := r.makeWorkers(newWorker); err != nil {
		t.Fatal(err)
	}
	result, err := r.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	compare(t, result, Delivery{Expected: 600, Delivered: 600}, Sessions{Established: 20})
}

func TestModes(t *testing.T) {
	for _, mode := range []Mode{Idle, Storm, Check, Channels} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			cfg := (&fakeServer{}).start(t)
			cfg.Mode = mode
			result, err := Run(t.Context(), cfg, func(string) {})
			if err != nil || result.Sessions.Established != 20 || result.Sessions.PerSecond <= 0 {
				t.Errorf("%+v %v", result, err)
			}
		})
	}
	t.Run("failed check", func(t *testing.T) {
		t.Parallel()
		cfg := (&fakeServer{faults: faults{swap: 10}}).start(t)
		cfg.Mode = Check
		result, err := Run(t.Context(), cfg, func(string) {})
		if err == nil || result == nil || result.Delivery.Late != 10 {
			t.Errorf("%+v %v", result, err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cfg := (&fakeServer{}).start(t)
		cfg.Duration = time.Hour
		_, err := Run(ctx, cfg, func(status string) {
			if strings.HasPrefix(status, "measuring") {
				cancel()
			}
		})
		if err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Error(err)
		}
	})
}

func TestFanoutFaults(t *testing.T) {
	cfg := (&fakeServer{}).start(t)
	cfg.Mode, cfg.Channels, cfg.Limit, cfg.Duration = Fanout, 1, time.Minute, 100*time.Millisecond
	r, err := newRunner(t.Context(), cfg, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		b    burst
		want string
	}{
		{burst{latency: Latency{P99: 59_000}}, ""},
		{burst{latency: Latency{P99: 61_000}}, "p99 61000 ms"},
		{burst{published: published{deliveries: 5}, delivered: 3}, "2 lost"},
		{burst{published: published{faults: 1, fault: errClosed}}, "publishing: " + errClosed.Error()},
	} {
		if got := r.fault(&tt.b); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.b, got, tt.want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*Config)
		want string
	}{
		{"transport", func(c *Config) { c.Transport = "carrier-pigeon" }, "is not one of long-polling"},
		{"clients", func(c *Config) { c.Clients = 60_001 }, "--clients is 60001"},
		{"duration", func(c *Config) { c.Duration = 61 * time.Minute }, "--duration is 3660 s"},
		{"rate", func(c *Config) { c.Rate = 0 }, "--rate is 0"},
		{"channels", func(c *Config) { c.Channels = 21 }, "every channel needs a client"},
		{"size", func(c *Config) { c.Size = 10 }, "--size is 10 bytes"},
		{"prefix", func(c *Config) { c.Prefix = "bench" }, "is no channel"},
		{"other machine", func(c *Config) { c.URL = "http://192.0.2.1:8080" }, "give --remote"},
		{"other machine's door", func(c *Config) { c.REST = "http://192.0.2.1:8080" }, "--rest http://192.0.2.1:8080 is another machine"},
		{"no URL", func(c *Config) { c.URL = "127.0.0.1:8080" }, "is not like http://127.0.0.1:8080"},
		{"no process", func(c *Config) { c.PID = 1 << 30 }, "--pid"},
		{"nobody to publish to", func(c *Config) { c.REST = "http://127.0.0.1:1" }, "connection refused: nothing listens there"},
		{"nobody there", func(c *Config) { c.URL = "http://127.0.0.1:1" }, "start comet dev"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := (&fakeServer{}).start(t)
			tt.set(&cfg)
			if _, err := Run(t.Context(), cfg, func(string) {}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}
