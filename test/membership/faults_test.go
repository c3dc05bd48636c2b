package membership

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/etcd"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/test/internal/cluster"
)

// TestMain lets more tests run at once than there are cores: they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// await takes views until one is as wanted.
func await(t *testing.T, views <-chan membership.View, want string, ok func(membership.View) bool) {
	t.Helper()
	for limit := time.After(20 * time.Second); ; {
		select {
		case v := <-views:
			if ok(v) {
				return
			}
		case <-limit:
			t.Fatalf("not within 20s: %s", want)
		}
	}
}

// register announces a node until the test ends.
func register(t *testing.T, d *etcd.Directory, n membership.Node) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.Register(ctx, n, nil); err != nil {
			t.Errorf("Register returned %v, want nil", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func announced(n membership.Node) func(membership.View) bool {
	return func(v membership.View) bool {
		_, ok := v.Node(n.Member())
		return v.Connected && ok
	}
}

var broker = membership.Node{Name: "b", ID: "1", Roles: []membership.Role{membership.Broker}, Addr: "b:7070"}

// TestDownAtStart wants a log line that says what to do, and no failure.
func TestDownAtStart(t *testing.T) {
	t.Parallel()
	server := cluster.NewEtcd(t) // not started
	log := new(lines)
	d := open(t, etcd.Config{Endpoints: []string{server.URL}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	views := d.Watch(t.Context())
	register(t, d, broker)
	for limit := time.After(20 * time.Second); !strings.Contains(log.String(), "etcd cannot be followed"); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Fatalf("no word of it in the log: %s", log)
		}
	}
	for _, want := range []string{server.URL, "connection refused", "--etcd.endpoints"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, log)
		}
	}
	server.Start(t)
	await(t, views, "announced", announced(broker))
	if !strings.Contains(log.String(), "etcd answers again") {
		t.Errorf("the log does not say that it is over: %s", log)
	}
}

// lines is a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String implements fmt.Stringer.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestCompacted cuts a watcher off while what it would resume from is compacted.
func TestCompacted(t *testing.T) {
	t.Parallel()
	server := cluster.NewEtcd(t)
	server.Start(t)
	for _, cut := range []time.Duration{100 * time.Millisecond, 3 * time.Second} {
		t.Run(cut.String(), func(t *testing.T) {
			t.Parallel()
			prefix := "/" + t.Name()
			g := newGate(false)
			d := open(t, etcd.Config{Endpoints: []string{server.URL}, Prefix: prefix, Dial: g.dial})
			views := d.Watch(t.Context())
			await(t, views, "connected", func(v membership.View) bool { return v.Connected })
			g.close(true)
			client := connect(t, server.URL)
			var last int64
			for term := range 10 {
				resp, err := client.Put(t.Context(), prefix+"/slots/007", fmt.Sprintf(`{"term":%d,"primary":"x@1"}`, term))
				if err != nil {
					t.Fatal(err)
				}
				last = resp.Header.GetRevision()
			}
			if _, err := client.Compact(t.Context(), last, clientv3.WithCompactPhysical()); err != nil {
				t.Fatal(err)
			}
			<-time.After(cut)
			g.close(false)
			await(t, views, "the row", func(v membership.View) bool { return v.Connected && v.Table.Row(7).Term == 9 })
		})
	}
}

// TestStoreLostItsData replaces the store by an empty one: what is shown is
// what it has, and nodes announce themselves to it.
func TestStoreLostItsData(t *testing.T) {
	t.Parallel()
	first, second := cluster.NewEtcd(t), cluster.NewEtcd(t)
	first.Start(t)
	second.Start(t)
	var empty atomic.Bool
	g := newGate(false)
	d := open(t, etcd.Config{Endpoints: []string{first.URL}, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
		if empty.Load() {
			addr = strings.TrimPrefix(second.URL, "http://")
		}
		return g.dial(ctx, addr)
	}})
	views := d.Watch(t.Context())
	register(t, d, broker)
	lead(t, d, 0)
	await(t, views, "node and row", func(v membership.View) bool { return announced(broker)(v) && v.Table.Row(0).Term == 1 })

	g.close(true)
	empty.Store(true)
	g.close(false)
	await(t, views, "announced in the empty store", func(v membership.View) bool {
		return announced(broker)(v) && v.Table.Row(0).Version == 0
	})
	lead(t, d, 0)
	await(t, views, "a new row", func(v membership.View) bool { return v.Table.Row(0).Term == 1 })
}

// lead campaigns, creates rows, and resigns.
func lead(t *testing.T, d *etcd.Directory, slots ...shard.Slot) {
	t.Helper()
	l, err := d.Campaign(t.Context(), "b@1")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Resign(t.Context())
	for _, s := range slots {
		r := shard.Row{Term: 1, Primary: "b@1", InSync: []string{"b@1"}, Replicas: []string{"b@1"}, Base: 1 << 21}
		if err := l.Write(t.Context(), membership.Change{Slot: s, Row: r}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTimes measures, and wants, what operators are promised.
func TestTimes(t *testing.T) {
	server := cluster.NewEtcd(t)
	server.Start(t)
	d := open(t, etcd.Config{Endpoints: []string{server.URL}})
	other := open(t, etcd.Config{Endpoints: []string{server.URL}})
	views := other.Watch(t.Context())
	start := time.Now()
	register(t, d, broker)
	await(t, views, "announced", announced(broker))
	t.Logf("announced after %v", time.Since(start).Round(time.Millisecond))

	var all []shard.Slot
	for s := range shard.Slot(shard.Slots) {
		all = append(all, s)
	}
	start = time.Now()
	lead(t, d, all...)
	t.Logf("elected, and %d rows written one by one, after %v", shard.Slots, time.Since(start).Round(time.Millisecond))
	await(t, views, "all rows", func(v membership.View) bool { return v.Table.Complete() })
	t.Logf("seen elsewhere after %v", time.Since(start).Round(time.Millisecond))

	for try := 1; ; try++ {
		took := comeBack(t, server, views)
		if took <= time.Second {
			return
		}
		if try == 3 { // a busy machine may be slow, but not every time
			t.Fatalf("connected and announced again %v after etcd's return, want within 1s", took)
		}
	}
}

// comeBack stops etcd for a while, and returns how long after its return all
// was well.
func comeBack(t *testing.T, server *cluster.Etcd, views <-chan membership.View) time.Duration {
	t.Helper()
	start := time.Now()
	var stopping sync.WaitGroup
	stopping.Go(server.Stop)
	await(t, views, "disconnected", func(v membership.View) bool { return !v.Connected })
	t.Logf("stop of etcd noticed after %v", time.Since(start).Round(time.Millisecond))
	stopping.Wait()
	<-time.After(3 * time.Second)
	server.Start(t)
	start = time.Now()
	await(t, views, "connected again", announced(broker))
	took := time.Since(start).Round(time.Millisecond)
	t.Logf("connected and announced again %v after etcd's return", took)
	return took
}
