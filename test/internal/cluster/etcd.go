package cluster

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Etcd is the real etcd server, one member, in the test's process.
type Etcd struct {
	// URL is its client endpoint.
	URL string

	peer   string
	dir    string
	server *embed.Etcd
}

// NewEtcd returns an etcd with free ports and an empty data directory.
func NewEtcd(t testing.TB) *Etcd {
	t.Helper()
	ports := Ports(t, 2)
	e := &Etcd{
		URL:  fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		peer: fmt.Sprintf("http://127.0.0.1:%d", ports[1]),
		dir:  t.TempDir(),
	}
	t.Cleanup(e.Stop)
	return e
}

// Start starts the server, or starts it again on what it knew, and waits until
// it answers.
func (e *Etcd) Start(t testing.TB) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = e.dir
	// Its farewells look like errors, in the log of the test that stops it.
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.UnsafeNoFsync = true
	client, peer := mustURL(t, e.URL), mustURL(t, e.peer)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	e.server = server
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(30 * time.Second):
		t.Fatal("etcd is not ready after 30s")
	}
}

// Stop stops the server; its data stays.
func (e *Etcd) Stop() {
	if e.server != nil {
		e.server.Close()
		e.server = nil
	}
}

// mustURL parses an address the test made itself.
func mustURL(t testing.TB, address string) url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return *u
}
