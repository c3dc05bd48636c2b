package report_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/report"
)

// sessions are those of an edge: public id → channels.
type sessions struct {
	mu         sync.Mutex
	of         map[string][]string
	vector     []uint64
	superseded []string // "session epoch.count home"
}

func (s *sessions) set(id string, channels ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[id] = channels
}

func (s *sessions) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.of, id)
}

func (s *sessions) Sessions() iter.Seq[string] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Values(slices.Sorted(maps.Keys(s.of)))
}

func (s *sessions) State(id string) (*edgev1.SessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	channels, ok := s.of[id]
	return &edgev1.SessionState{Channels: channels}, ok
}

func (s *sessions) Resume(id string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.of[id]
	return []byte("at " + id), ok
}

func (s *sessions) Vector() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vector
}

func (s *sessions) Superseded(id string, g *edgev1.Generation, home string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.superseded = append(s.superseded, fmt.Sprintf("%s %d.%d %s", id, g.GetEpoch(), g.GetCount(), home))
}

// in are the sessions of some shards.
func (s *sessions) in(shards map[shard.PresenceShard]bool) map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	some := maps.Clone(s.of)
	maps.DeleteFunc(some, func(id string, _ []string) bool { return !shards[shard.OfSession(id)] })
	return some
}

// node is a presence node: it keeps what the newest stream has told it.
type node struct {
	edgev1.UnimplementedReportServiceServer

	mu       sync.Mutex
	edge     string
	known    map[string][]string
	resumed  map[string]string // since it was known whole
	gone     map[string]*edgev1.SessionGone
	shards   map[shard.PresenceShard]int // how often they were synced
	vectors  [][]uint64
	seen     []int // of known sessions, when each vector came
	streams  int
	batches  int
	compares bool                        // sums
	summed   map[shard.PresenceShard]int // how often
	differ   int                         // sums that are not of what is known
	bytes    int
	refused  []*edgev1.Superseded // told with the next answer
	mute     bool                 // does not answer
	fail     error                // ends the next stream it hears from
}

func (n *node) Report(stream grpc.BidiStreamingServer[edgev1.ReportRequest, edgev1.ReportResponse]) error {
	n.mu.Lock()
	n.streams++
	n.known, n.resumed, n.gone = map[string][]string{}, map[string]string{}, map[string]*edgev1.SessionGone{}
	n.summed, n.differ = map[shard.PresenceShard]int{}, 0
	n.shards, n.vectors, n.seen = map[shard.PresenceShard]int{}, nil, nil
	n.mu.Unlock()
	for applied := uint64(1); ; applied++ {
		b, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // the edge closed its half
		}
		mute, err := n.apply(b)
		if err != nil {
			return err
		}
		if mute {
			continue
		}
		if err := stream.Send(&edgev1.ReportResponse{Applied: applied, Superseded: n.refuse()}); err != nil {
			return err
		}
	}
}

func (n *node) apply(b *edgev1.ReportRequest) (mute bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		err, n.fail = n.fail, nil
		return false, err
	}
	n.batches++
	n.bytes += proto.Size(b)
	if b.GetEdge() != "" {
		n.edge = b.GetEdge()
	}
	for _, c := range b.GetChanges() {
		if p := c.GetPresent(); p != nil {
			n.known[c.GetSession()] = p.GetChannels()
			delete(n.resumed, c.GetSession())
		} else if c.GetGone() == nil {
			n.resumed[c.GetSession()] = string(c.GetResumed())
		} else {
			delete(n.known, c.GetSession())
			n.gone[c.GetSession()] = c.GetGone()
		}
	}
	for _, s := range b.GetSyncedShards() {
		n.shards[shard.PresenceShard(s)]++
	}
	if n.compares {
		n.compare(b.GetSums())
	}
	if v := b.GetVector(); v != nil {
		n.vectors, n.seen = append(n.vectors, v.GetOffsets()), append(n.seen, len(n.known))
	}
	return n.mute, nil
}

func (n *node) refuse() []*edgev1.Superseded {
	n.mu.Lock()
	defer n.mu.Unlock()
	refused := n.refused
	n.refused = nil
	return refused
}

// world is a reporter and one presence node.
type world struct {
	t        *testing.T
	leads    membership.Leadership
	watch    *memory.Directory
	sessions *sessions
	node     *node
	reporter *report.Reporter
	leave    context.CancelFunc // takes the node out of the directory
	stop     func()
}

func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, sessions: &sessions{of: map[string][]string{}}, node: &node{}}
		l := bufconn.Listen(1 << 16)
		server := grpc.NewServer()
		edgev1.RegisterReportServiceServer(server, w.node)
		go func() { _ = server.Serve(l) }()
		pool := rpc.NewPool(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })

		directory := memory.NewStore(2 * time.Second).Directory()
		announced, leave := context.WithCancel(t.Context())
		w.leave = leave
		go func() {
			_ = directory.Register(announced, membership.Node{
				Name: "presence-0", ID: "p0", Addr: "presence-0:7070", Roles: []membership.Role{membership.Presence},
			}, nil)
		}()
		w.watch = directory
		leads, err := directory.Campaign(t.Context(), "leader")
		if err != nil {
			t.Fatal(err)
		}
		w.leads = leads
		for n := range shard.PresenceShard(shard.PresenceShards) {
			w.hold(n, self, "")
		}
		w.reporter = report.New(report.Config{
			Edge: "edge-0@e0", Directory: directory, Conns: pool,
			Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		}, w.sessions)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.reporter.Run(ctx) }()
		w.stop = sync.OnceFunc(func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		test(w)
		w.stop()
		leave()
		_ = pool.Close()
		server.Stop()
	})
}

const self = "presence-0@p0"

// hold writes the holders of a shard.
func (w *world) hold(n shard.PresenceShard, first, second string) {
	w.t.Helper()
	v := w.watch.Watch(w.t.Context())
	version := (<-v).Presence.Holders(n).Version
	err := w.leads.WriteHolders(w.t.Context(), membership.HoldersChange{
		Shard: n, Holders: shard.Holders{First: first, Second: second, Version: version},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// wait waits for what is under way.
func (w *world) wait() {
	time.Sleep(200 * time.Millisecond)
	synctest.Wait()
}

// check compares what the node knows with what there is, a little later.
func (w *world) check() {
	w.t.Helper()
	w.wait()
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	if diff := cmp.Diff(w.sessions.of, w.node.known); diff != "" {
		w.t.Errorf("the node knows something else (-want +got):\n%s", diff)
	}
	if len(w.node.shards) == 0 || w.node.edge != "edge-0@e0" {
		w.t.Errorf("%d shards synced, edge %q", len(w.node.shards), w.node.edge)
	}
}

func gone(reason string) *edgev1.SessionGone { return &edgev1.SessionGone{Reason: reason} }

func TestChanges(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check() // nobody
		for i := range 1200 {
			id := fmt.Sprint("s", i)
			w.sessions.set(id, "/a")
			w.reporter.Changed(id)
		}
		w.check()
		batches := w.node.batches
		for range 100 { // within one batch
			w.sessions.set("s7", "/a", "/b")
			w.reporter.Changed("s7")
		}
		w.sessions.drop("s8")
		w.reporter.Gone("s8", gone("expired"))
		w.reporter.Changed("s8") // too late
		w.sessions.set("s9", "/c")
		w.reporter.Changed("s9")
		w.reporter.Gone("s9", gone("moved")) // in an older life
		w.check()
		if w.node.batches != batches+1 || w.node.gone["s8"].GetReason() != "expired" {
			t.Errorf("%d batches more, gone %v", w.node.batches-batches, w.node.gone)
		}
		if w.node.streams != 1 {
			t.Errorf("%d streams", w.node.streams)
		}
	})
}

// Whatever happens to a stream, the next one tells everything again.
func TestBrokenStreams(t *testing.T) {
	tests := []struct {
		name string
		harm func(n *node)
		heal func(n *node)
		wait time.Duration
	}{
		{"ended", func(n *node) { n.fail = errors.New("restart") }, func(*node) {}, 5 * time.Second},
		{"silent", func(n *node) { n.mute = true }, func(n *node) { n.mute = false }, 15 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.sessions.set("a", "/a")
				w.reporter.Changed("a")
				w.check()
				w.node.mu.Lock()
				tt.harm(w.node)
				w.node.mu.Unlock()
				for i := range 5000 {
					id := fmt.Sprint("b", i)
					w.sessions.set(id, "/b")
					w.reporter.Changed(id)
				}
				w.sessions.drop("a")
				w.reporter.Gone("a", gone("disconnect"))
				time.Sleep(tt.wait)
				w.node.mu.Lock()
				tt.heal(w.node)
				w.node.mu.Unlock()
				time.Sleep(15 * time.Second)
				w.check()
				if w.node.streams < 2 {
					t.Errorf("%d streams", w.node.streams)
				}
			})
		})
	}
}

// What ended last is told before Run returns.
func TestGoodbye(t *testing.T) {
	inWorld(t, func(w *world) {
		w.sessions.set("a", "/a")
		w.reporter.Changed("a")
		w.check()
		w.sessions.drop("a")
		w.reporter.Gone("a", gone("drained"))
		w.stop()
		if len(w.node.known) != 0 || w.node.gone["a"].GetReason() != "drained" {
			t.Errorf("known %v, gone %v", w.node.known, w.node.gone)
		}
	})
}

// A node that leaves the directory is not called again.
func TestNodeLeaves(t *testing.T) {
	inWorld(t, func(w *world) {
		w.check()
		w.leave()
		time.Sleep(time.Minute)
		if w.node.streams != 1 {
			t.Errorf("%d streams", w.node.streams)
		}
	})
}
