// Package membership holds the etcd driver to the conformance suite, against
// the real server, and measures what operators are promised.
package membership

import (
	"context"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/conformance"
	"github.com/comet-push/comet/internal/membership/etcd"
	"github.com/comet-push/comet/test/internal/cluster"
)

// pace keeps leases through the pauses of a busy machine.
func pace() conformance.Pace {
	return conformance.Pace{Lease: 4 * time.Second, Patience: 15 * time.Second}
}

// inParallel runs cases beside each other: their time is real, and they wait.
func inParallel(t *testing.T, f func(*testing.T)) {
	t.Helper()
	t.Parallel()
	f(t)
}

func TestConformanceRefused(t *testing.T) {
	t.Parallel()
	server := cluster.NewEtcd(t)
	server.Start(t)
	conformance.Run(t, pace(), inParallel, func(t *testing.T) conformance.Store {
		t.Helper()
		return &store{url: server.URL, prefix: "/" + t.Name()}
	})
}

func TestConformanceSwallowed(t *testing.T) {
	t.Parallel()
	server := cluster.NewEtcd(t)
	server.Start(t)
	conformance.Run(t, pace(), inParallel, func(t *testing.T) conformance.Store {
		t.Helper()
		return &store{url: server.URL, prefix: "/" + t.Name(), swallow: true}
	})
}

func TestConformanceStopped(t *testing.T) {
	t.Parallel()
	conformance.Run(t, pace(), inParallel, func(t *testing.T) conformance.Store {
		t.Helper()
		server := cluster.NewEtcd(t)
		server.Start(t)
		return &store{url: server.URL, server: server}
	})
}

// store is an etcd as the suite sees it.
type store struct {
	url     string
	prefix  string
	swallow bool          // an outage swallows packets; it refuses otherwise
	server  *cluster.Etcd // if set, an outage stops it

	mu      sync.Mutex
	down    bool
	handles []*handle
}

// Open implements [conformance.Store].
func (s *store) Open(t *testing.T) conformance.Handle {
	t.Helper()
	g := newGate(s.swallow)
	h := &handle{Directory: open(t, etcd.Config{Endpoints: []string{s.url}, Prefix: s.prefix, Lease: pace().Lease, Dial: g.dial}), gate: g}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handles = append(s.handles, h)
	if s.down {
		h.Disconnect(true)
	}
	return h
}

// Disconnect implements [conformance.Store].
func (s *store) Disconnect(t *testing.T, down bool) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.server == nil:
		s.down = down
		for _, h := range s.handles {
			h.Disconnect(down)
		}
	case down:
		s.server.Stop()
	default:
		s.server.Start(t)
	}
}

// Expire implements [conformance.Store].
func (s *store) Expire(t *testing.T, n membership.Node) {
	t.Helper()
	client := connect(t, s.url)
	prefix := s.prefix
	if prefix == "" {
		prefix = "/comet"
	}
	resp, err := client.Get(t.Context(), prefix+"/nodes/"+n.Member())
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("read %s: %v, %v", n.Member(), resp, err)
	}
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
}

// handle is a directory whose network can fail.
type handle struct {
	*etcd.Directory
	gate   *gate
	killed bool
}

// Disconnect implements [conformance.Handle].
func (h *handle) Disconnect(cut bool) { h.gate.close(cut || h.killed) }

// Kill implements [conformance.Handle]: the store hears no more of it.
func (h *handle) Kill() {
	h.killed = true
	h.gate.close(true)
}

// open returns a directory that runs until the test ends.
func open(t *testing.T, cfg etcd.Config) *etcd.Directory {
	t.Helper()
	d, err := etcd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // outlives who uses it
	ended := make(chan error)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v, want nil", err)
		}
	})
	return d
}

// connect returns a plain client.
func connect(t *testing.T, url string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() }) // only says that it was closed
	return client
}
