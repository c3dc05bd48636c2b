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
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/services/presence"
)

// stage is one presence process over memory, and the directory around it.
type stage struct {
	*testing.T
	store     *memory.Store
	service   *presence.Service
	metrics   *prometheus.Registry
	door      *bufconn.Listener
	conn      *grpc.ClientConn
	query     presencev1.PresenceServiceClient
	drain     context.CancelCauseFunc
	announced []*edge // before the process ran
}

// play runs a test with a presence process in a bubble of virtual time. Edges of
// the given names are announced before the process runs.
func play(t *testing.T, cfg presence.Config, test func(*stage), announced ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		s := &stage{
			T: t, store: memory.NewStore(0), metrics: prometheus.NewRegistry(), door: bufconn.Listen(1 << 16),
		}
		var err error
		if s.service, err = presence.New(cfg, presence.Deps{Directory: s.store.Directory(), Registerer: s.metrics}); err != nil {
			t.Fatal(err)
		}
		server := rpc.NewServer(rpc.ServerConfig{Grace: time.Second}, s.door)
		s.service.RegisterPublic(server)
		s.service.RegisterNode(server)
		for _, name := range announced {
			s.announced = append(s.announced, s.announce(name, "1"))
		}
		ctx, drain := context.WithCancelCause(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- run.All(ctx, s.service, server) }()
		synctest.Wait()
		s.drain = drain
		s.conn = s.connect()
		s.query = presencev1.NewPresenceServiceClient(s.conn)
		t.Cleanup(func() {
			drain(run.ErrDraining)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		test(s)
	})
}

// connect returns a connection of its own.
func (s *stage) connect() *grpc.ClientConn {
	s.Helper()
	pool := rpc.NewPool(func(ctx context.Context, _ string) (net.Conn, error) { return s.door.DialContext(ctx) })
	conn, err := pool.Conn("presence:7070")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = pool.Close() }) // an edge may be gone before
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
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.dir.Register(ctx, e.node, nil); err != nil {
			s.Error(err)
		}
	}()
	s.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return e
}

// report begins a stream of the edge and says that it has these sessions.
func (e *edge) report(changes ...*edgev1.SessionChange) {
	e.s.Helper()
	e.open()
	e.tell(&edgev1.ReportRequest{Edge: e.node.Member(), Changes: changes, Synced: true})
}

func (e *edge) open() {
	e.s.Helper()
	e.conn = e.s.connect()
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
	resp, err := e.stream.Recv()
	if err != nil {
		e.s.Fatal(err)
	}
	if e.sent++; resp.GetApplied() != e.sent {
		e.s.Errorf("%d batches applied, want %d", resp.GetApplied(), e.sent)
	}
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

func (s *stage) wantNotReady() {
	s.Helper()
	s.wantError(s.ask(), codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY)
}
