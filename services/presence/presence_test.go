package presence_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/presence"
)

// stage is a presence process over memory, perhaps others, and the directory
// around them.
type stage struct {
	*testing.T
	store *memory.Store
	lead  membership.Leadership
	doors map[string]*bufconn.Listener // by address
	*process
	announced []*edge // before the process ran
}

// process is one presence process.
type process struct {
	node    membership.Node
	service *presence.Service
	metrics *prometheus.Registry
	door    *bufconn.Listener
	conn    *grpc.ClientConn
	query   presencev1.PresenceServiceClient
	record  edgev1.RecordServiceClient
	drain   context.CancelCauseFunc
}

// play runs a test with a presence process, the first holder of all shards, in a
// bubble of virtual time. Edges of the given names are announced before the
// process runs.
func play(t *testing.T, cfg presence.Config, test func(*stage), announced ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		s := &stage{T: t, store: memory.NewStore(0), doors: map[string]*bufconn.Listener{}}
		led, resign := context.WithCancel(context.Background())
		t.Cleanup(resign)
		var err error
		if s.lead, err = s.store.Directory().Campaign(led, "test"); err != nil {
			t.Fatal(err)
		}
		for _, name := range announced {
			s.announced = append(s.announced, s.announce(name, "1"))
		}
		s.hold(func(shard.PresenceShard) shard.Holders { return shard.Holders{First: "presence-1@1"} })
		s.process = s.start("presence-1", cfg)
		test(s)
	})
}

// hold writes who holds the shards.
func (s *stage) hold(row func(shard.PresenceShard) shard.Holders) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	view := <-s.store.Directory().Watch(ctx)
	for n := range shard.PresenceShard(shard.PresenceShards) {
		old := view.Presence.Holders(n)
		next := row(n)
		if next.Epoch = old.Epoch; next.First != old.First {
			next.Epoch++
		}
		next = next.Follow(old)
		next.Version = old.Version
		if err := s.lead.WriteHolders(ctx, membership.HoldersChange{Shard: n, Holders: next}); err != nil {
			s.Fatal(err)
		}
	}
	synctest.Wait()
}

// start runs a presence process until the test ends.
func (s *stage) start(name string, cfg presence.Config) *process {
	s.Helper()
	p := &process{metrics: prometheus.NewRegistry(), door: bufconn.Listen(1 << 16)}
	p.node = membership.Node{Name: name, ID: "1", Addr: name + ":7070", Roles: []membership.Role{membership.Presence}}
	s.doors[p.node.Addr] = p.door
	s.register(s.store.Directory(), p.node)
	var err error
	p.service, err = presence.New(cfg, presence.Deps{
		Node: p.node, Directory: s.store.Directory(), Conns: s.pool(), Registerer: p.metrics, Namespaces: namespaces(s.T),
	})
	if err != nil {
		s.Fatal(err)
	}
	server := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, p.door)
	p.service.RegisterPublic(server)
	p.service.RegisterNode(server)
	ctx, drain := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run.All(ctx, p.service, server) }()
	synctest.Wait()
	p.drain = drain
	p.conn = s.connect(p)
	p.query, p.record = presencev1.NewPresenceServiceClient(p.conn), edgev1.NewRecordServiceClient(p.conn)
	s.Cleanup(func() {
		drain(run.ErrDraining)
		if err := <-ended; err != nil {
			s.Error(err)
		}
	})
	return p
}

// namespaces are some in which little is told of who is there.
func namespaces(t *testing.T) *namespace.Set {
	t.Helper()
	set, err := namespace.NewSet([]namespace.Options{
		{Pattern: "/hidden/**", Presence: namespace.Off}, {Pattern: "/counted/**", Presence: namespace.Count},
	}, namespace.Open())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// pool returns connections to all processes.
func (s *stage) pool() *rpc.Pool {
	pool := rpc.NewPool(func(ctx context.Context, addr string) (net.Conn, error) {
		door := s.doors[addr]
		if door == nil {
			return nil, fmt.Errorf("nobody is at %s", addr)
		}
		return door.DialContext(ctx)
	})
	s.Cleanup(func() { _ = pool.Close() }) // an edge may be gone before
	return pool
}

// connect returns a connection of its own.
func (s *stage) connect(p *process) *grpc.ClientConn {
	s.Helper()
	conn, err := s.pool().Conn(p.node.Addr)
	if err != nil {
		s.Fatal(err)
	}
	return conn
}

// edge is an edge that reports.
type edge struct {
	s      *stage
	node   membership.Node
	dir    *memory.Directory
	conn   *grpc.ClientConn
	stream edgev1.ReportService_ReportClient
	sent   uint64
}

// announce announces an edge, which does not report yet.
func (s *stage) announce(name, id string) *edge {
	s.Helper()
	e := &edge{s: s, dir: s.store.Directory(), node: membership.Node{Name: name, ID: id, Roles: []membership.Role{membership.Edge}}}
	s.register(e.dir, e.node)
	return e
}

// register keeps a node announced until the test ends.
func (s *stage) register(dir *memory.Directory, n membership.Node) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := dir.Register(ctx, n, nil); err != nil {
			s.Error(err)
		}
	}()
	s.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
}

// report begins a stream of the edge and says that it has these sessions.
func (e *edge) report(changes ...*edgev1.SessionChange) {
	e.s.Helper()
	e.open(e.s.process)
	e.tell(&edgev1.ReportRequest{Edge: e.node.Member(), Changes: changes, BegunShards: everything(), SyncedShards: everything()})
}

// everything is all shards.
func everything() (all []uint32) {
	for n := range uint32(shard.PresenceShards) {
		all = append(all, n)
	}
	return all
}

func (e *edge) open(p *process) {
	e.s.Helper()
	e.conn = e.s.connect(p)
	stream, err := edgev1.NewReportServiceClient(e.conn).Report(context.Background())
	if err != nil {
		e.s.Fatal(err)
	}
	e.stream, e.sent = stream, 0
}

// tell sends a batch and waits until it is applied.
func (e *edge) tell(batch *edgev1.ReportRequest) {
	e.s.Helper()
	if err := e.stream.Send(batch); err != nil {
		e.s.Fatal(err)
	}
	if resp := e.answer(); resp.GetApplied() != e.sent+1 {
		e.s.Errorf("%d batches applied, want %d", resp.GetApplied(), e.sent+1)
	}
	e.sent++
}

// answer reads an answer.
func (e *edge) answer() *edgev1.ReportResponse {
	e.s.Helper()
	resp, err := e.stream.Recv()
	if err != nil {
		e.s.Fatal(err)
	}
	return resp
}

func (e *edge) change(changes ...*edgev1.SessionChange) {
	e.s.Helper()
	e.tell(&edgev1.ReportRequest{Changes: changes})
}

// hangUp breaks the edge's stream.
func (e *edge) hangUp() {
	_ = e.conn.Close() // nothing of it is used again
	synctest.Wait()
}

// since is when sessions of tests began.
var since = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func there(session, user string, channels ...string) *edgev1.SessionChange {
	return &edgev1.SessionChange{Session: session, Change: &edgev1.SessionChange_Present{Present: &edgev1.SessionState{
		User: user, Transport: "long-polling", Since: timestamppb.New(since), Channels: channels,
	}}}
}

func subscribed(session string, channels ...string) *edgev1.SessionChange {
	return &edgev1.SessionChange{Session: session, Change: &edgev1.SessionChange_Subscribed{
		Subscribed: &edgev1.ChannelList{Channels: channels},
	}}
}

func unsubscribed(session string, channels ...string) *edgev1.SessionChange {
	return &edgev1.SessionChange{Session: session, Change: &edgev1.SessionChange_Unsubscribed{
		Unsubscribed: &edgev1.ChannelList{Channels: channels},
	}}
}

func gone(session string) *edgev1.SessionChange {
	return &edgev1.SessionChange{Session: session, Change: &edgev1.SessionChange_Gone{
		Gone: &edgev1.SessionGone{Reason: "disconnect"},
	}}
}

// roster returns who is on a channel, as session ids, and wants the count to
// agree.
func (s *stage) roster(channel string) string {
	s.Helper()
	resp, err := s.query.GetRoster(s.Context(), &presencev1.GetRosterRequest{Channel: channel})
	if err != nil {
		s.Fatal(err)
	}
	ids := []string{}
	for _, m := range resp.GetMembers() {
		ids = append(ids, m.GetSession())
	}
	count, err := s.query.GetCount(s.Context(), &presencev1.GetCountRequest{Channel: channel})
	if err != nil {
		s.Fatal(err)
	}
	if count.GetCount() != uint64(len(ids)) || resp.GetCount() != count.GetCount() {
		s.Errorf("%s has %d members by count, %d by roster, %d listed", channel, count.GetCount(), resp.GetCount(), len(ids))
	}
	return fmt.Sprint(ids)
}

// wantRoster wants these sessions on a channel.
func (s *stage) wantRoster(channel, want string) {
	s.Helper()
	if got := s.roster(channel); got != want {
		s.Errorf("roster of %s is %s, want %s", channel, got, want)
	}
}

// ask makes a small call and returns its error.
func (s *stage) ask() error {
	_, err := s.query.GetCount(s.Context(), &presencev1.GetCountRequest{Channel: "/a"})
	return err
}

// wantError wants a refusal with a code and a reason.
func (s *stage) wantError(err error, code codes.Code, reason channelv1.ErrorReason) {
	s.Helper()
	if status.Code(err) != code || rpc.Reason(err) != reason {
		s.Errorf("error is %v (%v), want %v with reason %v", err, rpc.Reason(err), code, reason)
	}
}

func (s *stage) reason(err error) channelv1.ErrorReason { return rpc.Reason(err) }

func (s *stage) wantNotReady() {
	s.Helper()
	s.wantError(s.ask(), codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY)
}
