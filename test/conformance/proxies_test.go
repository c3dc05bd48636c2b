package conformance

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/comet-push/comet/test/internal/client"
	"github.com/comet-push/comet/test/internal/cluster"
	"github.com/comet-push/comet/test/internal/proxy"
)

// probe is within what time a client that sees nothing of a stream is to try
// something else.
const probe = 5 * time.Second

// TestMuting puts a proxy in between that holds bodies back: clients find out
// since the first frame does not come, and fall back on long-polling.
func TestMuting(t *testing.T) {
	t.Parallel()
	p := cluster.Alone(t, "--edge.heartbeat=1s")
	s := newSite(p.Internal, client.Server{URL: "http://" + proxy.Nginx(t, []*cluster.Process{p}, proxy.Mute()...)})
	for _, tr := range client.Transports() {
		if tr.Socket || tr.Script && !tr.Stream {
			continue
		}
		t.Run(tr.Name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t, tr, channel(t, "/muting"))
			if !tr.Stream {
				l.open(s.doors[0])
				if err := s.number(l.channel, 0, 3, 0); err != nil {
					t.Fatal(err)
				}
				l.until(3)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), probe)
			defer cancel()
			if err := l.client.Open(ctx, s.doors[0]); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("through a muting proxy: %v, want silence", err)
			}
			// What deploy/proxy/README.md says of padding.
			took, err := firstByte(t, s.doors[0].URL+"/channels/a?padding=4096&transport="+tr.Name)
			t.Logf("with 4096 bytes of padding: the first byte after %v, %v", took.Round(time.Millisecond), err)
		})
	}
}

// TestCompressing puts a proxy in between that compresses what comes as it
// comes: nothing is held back.
func TestCompressing(t *testing.T) {
	t.Parallel()
	p := cluster.Alone(t, "--edge.heartbeat=1s")
	address := "http://" + proxy.Nginx(t, []*cluster.Process{p}, proxy.Compress())
	for _, tr := range client.Transports() {
		if tr.Stream && !tr.Socket {
			if took, err := firstByte(t, address+"/channels/a?transport="+tr.Name); err != nil {
				t.Errorf("%s compressed: no byte after %v: %v", tr.Name, took, err)
			}
		}
	}
}

// firstByte returns how long the first byte of a body takes that may be
// compressed, or an error if it does not come in time.
func firstByte(t *testing.T, url string) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), probe)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	resp, err := http.DefaultClient.Do(req) // asks for gzip and undoes it
	if err != nil {
		return time.Since(began), err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
		return time.Since(began), err
	}
	t.Logf("compressed: %v", resp.Uncompressed)
	return time.Since(began), nil
}

// TestIdle leaves connections alone for longer than a proxy lets them rest:
// heartbeats, and the time a request is held at most, keep them.
func TestIdle(t *testing.T) {
	t.Parallel()
	const idle = 8 * time.Second
	p := cluster.Alone(t, "--edge.heartbeat=1s", "--edge.poll-timeout=2s", "--edge.jsonp")
	for name, address := range map[string]string{
		nginx: proxy.Nginx(t, []*cluster.Process{p}, proxy.Edit{From: "proxy_read_timeout 75s;", To: "proxy_read_timeout 4s;"}),
		haproxy: proxy.HAProxy(t, []*cluster.Process{p},
			proxy.Edit{From: "timeout client 75s", To: "timeout client 4s"},
			proxy.Edit{From: "timeout server 75s", To: "timeout server 4s"},
			proxy.Edit{From: "timeout tunnel 75s", To: "timeout tunnel 4s"}),
	} {
		s := newSite(p.Internal, client.Server{URL: "http://" + address})
		t.Run(name, func(t *testing.T) {
			for _, tr := range client.Transports() {
				t.Run(tr.Name, func(t *testing.T) {
					t.Parallel()
					l := newLedger(t, tr, channel(t, "/idle"))
					l.open(s.doors[0])
					background(t, func() error {
						time.Sleep(idle)
						return s.number(l.channel, 0, 1, 0)
					})
					l.until(1)
				})
			}
		})
	}
}

// TestFailover lets one of two edges behind a proxy go: its clients find the
// other one at the same address, and miss nothing.
func TestFailover(t *testing.T) {
	t.Parallel()
	const before, after = 5, 20
	c := cluster.Split(t, 2, 1, "--config="+cluster.Config(t, config), "--edge.heartbeat=1s", "--edge.poll-timeout=2s", "--edge.jsonp")
	for _, way := range []string{nginx, haproxy} {
		start := proxy.Nginx
		if way == haproxy {
			start = proxy.HAProxy
		}
		gone := make(chan *cluster.Process, 1)
		s := newSite(c.Brokers[0].Internal, client.Server{URL: "http://" + start(t, c.Edges)})
		t.Run(way, func(t *testing.T) {
			var ready sync.WaitGroup
			for _, tr := range client.Transports() {
				t.Run(tr.Name, func(t *testing.T) {
					ready.Add(1)
					t.Parallel()
					l := newLedger(t, tr, channel(t, "/failover"))
					func() {
						defer ready.Done()
						l.open(s.doors[0])
						if err := s.number(l.channel, 0, before, 0); err != nil {
							t.Fatal(err)
						}
						l.until(before)
					}()
					background(t, func() error {
						ready.Wait()
						time.Sleep(500 * time.Millisecond)
						return s.number(l.channel, before, after, 100)
					})
					for !l.takeUntil(after) {
						if l.end != nil {
							time.Sleep(l.end.Retry)
						}
						l.openWithin(patience, s.doors[0])
					}
					if l.resyncs > 0 {
						t.Errorf("%d resyncs though no broker has left", l.resyncs)
					}
				})
			}
			background(t, func() error {
				ready.Wait()
				edge := busiest(t, c.Edges)
				gone <- edge
				edge.Signal(t, syscall.SIGTERM)
				return nil
			})
		})
		edge := <-gone
		if err := edge.Wait(patience); err != nil {
			t.Errorf("%s ended with %v", edge.Name, err)
		}
		edge.Start(t)
		edge.Ready(t, patience)
	}
}

// busiest is the edge that holds most readers of plain channels.
func busiest(t *testing.T, edges []*cluster.Process) *cluster.Process {
	t.Helper()
	return slices.MaxFunc(edges, func(a, b *cluster.Process) int { return int(readers(t, a) - readers(t, b)) })
}

func readers(t *testing.T, edge *cluster.Process) float64 {
	t.Helper()
	n, err := edge.Metric("comet_edge_readers")
	if err != nil {
		t.Error(err)
	}
	return n
}
