package presence_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/services/presence"
)

func TestNotReadyBeforeEveryEdgeIsHeard(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		one, two := s.announced[0], s.announced[1]
		s.wantNotReady()
		one.report(there("a", "", "/a"))
		s.wantNotReady()
		two.open(s.process)
		two.tell(&edgev1.ReportRequest{Edge: two.node.Member(), Changes: []*edgev1.SessionChange{there("b", "", "/a")}})
		s.wantNotReady()
		if s.service.Ready() == nil {
			s.Error("ready before the second edge is synced")
		}
		two.tell(&edgev1.ReportRequest{SyncedShards: everything()})
		s.wantRoster("/a", "[a b]")
		if err := s.service.Ready(); err != nil {
			s.Errorf("not ready: %v", err)
		}

		three := s.announce("edge-3", "1")
		s.wantNotReady()
		if err := s.service.Ready(); err != nil {
			s.Errorf("a new edge made the process not ready: %v", err)
		}
		three.report()
		s.wantRoster("/a", "[a b]")
	}, "edge-1", "edge-2")
}

func TestNotReadyBeforeTheDirectoryAnswers(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		if err := s.ask(); err != nil {
			s.Errorf("no edges: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		service, err := presence.New(presence.Config{}, presence.Deps{Directory: newStore().Directory(), Namespaces: namespaces(t)})
		if err != nil {
			t.Fatal(err)
		}
		if service.Ready() == nil {
			t.Error("ready before Run")
		}
	})
}

func TestChangesOfSessions(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("a", "ann", "/a", "/b/**"), there("b", "", "/a"))
		s.wantRoster("/a", "[a b]")
		s.wantRoster("/b/**", "[a]")
		s.wantRoster("/b/c", "[]") // patterns are names
		e.change(subscribed("b", "/b/**", "/a"), unsubscribed("a", "/a", "/never"), subscribed("nobody", "/a"))
		s.wantRoster("/a", "[b]")
		s.wantRoster("/b/**", "[a b]")
		e.change(gone("b"), gone("nobody"), there("c", "ann", "/a"))
		s.wantRoster("/a", "[c]")
		e.change(there("c", "ann", "/d"))
		s.wantRoster("/a", "[]")
		s.wantRoster("/d", "[c]")
	})
}

// TestVanishedEdgeTakesItsSessions kills a machine: no goodbye, no more lease.
// Its sessions may be adopted for a grace.
func TestVanishedEdgeTakesItsSessions(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		one, two := s.announce("edge-1", "1"), s.announce("edge-2", "1")
		one.report(there("a", "", "/a"), there("b", "", "/a"))
		two.report(there("c", "", "/a"))
		w := s.watch("/a")
		w.want("+a=1", "+b=2", "+c=3")

		one.dir.Kill()
		one.hangUp()
		<-time.After(time.Minute)
		s.wantRoster("/a", "[a b c]") // it may only have lost its connection, and then its lease
		<-time.After(5 * time.Second)
		s.wantRoster("/a", "[c]")
		w.want("-a=2", "-b=1")
	})
}

// TestRestartedEdge has another member under the same name, at once.
func TestRestartedEdge(t *testing.T) {
	play(t, presence.Config{Grace: time.Second}, func(s *stage) {
		old := s.announce("edge-1", "1")
		old.report(there("a", "", "/a"))
		old.dir.Kill()
		old.hangUp()
		young := s.announce("edge-1", "2")
		s.wantNotReady()
		young.report(there("b", "", "/a"))
		s.wantRoster("/a", "[a b]")
		<-time.After(2 * time.Second)
		s.wantRoster("/a", "[b]")
	})
}

// TestSilentEdge stays announced but does not come back: its sessions are
// there.
func TestSilentEdge(t *testing.T) {
	play(t, presence.Config{Grace: 5 * time.Second}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("a", "", "/a"))
		e.hangUp()
		<-time.After(time.Minute)
		s.wantRoster("/a", "[a]")
		e.report(there("a", "", "/a"), there("b", "", "/a"))
		s.wantRoster("/a", "[a b]")
	})
}

// TestUnannouncedEdge is heard once it is announced, and not for ever if it is
// not.
func TestUnannouncedEdge(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := &edge{s: s, dir: s.store.Directory(), node: membership.Node{Name: "edge-1", ID: "1", Roles: []membership.Role{membership.Edge}}}
		first := &edgev1.ReportRequest{Edge: "edge-1@1", Changes: []*edgev1.SessionChange{there("a", "", "/a")}, SyncedShards: everything()}
		e.open(s.process)
		if err := e.stream.Send(first); err != nil {
			s.Fatal(err)
		}
		_, err := e.stream.Recv()
		s.wantError(err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY)
		e.open(s.process)
		if err := e.stream.Send(first); err != nil {
			s.Fatal(err)
		}
		<-time.After(time.Second)
		s.wantRoster("/a", "[]")
		s.register(e.dir, e.node)
		e.answer()
		s.wantRoster("/a", "[a]")
		e.dir.Kill()
		_, err = e.stream.Recv()
		s.wantError(err, codes.Aborted, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
	})
}

// TestReconnectedEdge comes back in time with other sessions.
func TestReconnectedEdge(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("a", "", "/a"), there("b", "", "/a"))
		w := s.watch("/a")
		w.want("+a=1", "+b=2")
		e.hangUp()
		<-time.After(5 * time.Second)
		e.open(s.process)
		e.tell(&edgev1.ReportRequest{Edge: e.node.Member(), Changes: []*edgev1.SessionChange{there("b", "", "/a"), there("c", "", "/a")}})
		s.wantRoster("/a", "[a b c]")
		e.tell(&edgev1.ReportRequest{SyncedShards: everything()})
		s.wantRoster("/a", "[b c]")
		w.want("+c=3", "-a=2")
		<-time.After(5 * time.Minute)
		s.wantRoster("/a", "[b c]")
	})
}

// TestNewerStreamReplaces ends an older stream of the same edge, which breaks
// only afterwards.
func TestNewerStreamReplaces(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("a", "", "/a"))
		old := *e
		e.report(there("b", "", "/a"))
		_, err := old.stream.Recv()
		s.wantError(err, codes.Aborted, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE)
		old.hangUp()
		<-time.After(time.Minute)
		s.wantRoster("/a", "[b]")
	})
}

func TestStreamsEndWhenDraining(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("a", "", "/a"))
		w := s.watch("/a")
		w.want("+a=1")
		s.drain(run.ErrDraining)
		_, err := e.stream.Recv()
		s.wantError(err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING)
		_, err = w.stream.Recv()
		s.wantError(err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_DRAINING)
	})
}

func TestReportRefusesNonsense(t *testing.T) {
	invalid, parameter := codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID
	full, limit := codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED
	for _, tt := range []struct {
		name   string
		batch  *edgev1.ReportRequest
		code   codes.Code
		reason channelv1.ErrorReason
	}{
		{"no edge", &edgev1.ReportRequest{}, invalid, parameter},
		{"edge without id", &edgev1.ReportRequest{Edge: "edge-1"}, invalid, parameter},
		{"edge without name", &edgev1.ReportRequest{Edge: "@1"}, invalid, parameter},
		{"no shard", &edgev1.ReportRequest{Edge: "edge-1@1", SyncedShards: []uint32{256}}, invalid, parameter},
		{"a short vector", &edgev1.ReportRequest{Edge: "edge-1@1", Vector: &edgev1.Vector{Offsets: make([]uint64, 255)}}, invalid, parameter},
		{"no session", of(there("", "")), invalid, parameter},
		{"no change", of(&edgev1.SessionChange{Session: "a"}), invalid, parameter},
		{"too many sessions", of(there("a", ""), there("b", ""), there("c", "")), full, limit},
		{"too many channels", of(there("a", "", "/1", "/2", "/3")), full, limit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, presence.Config{MaxSessions: 2, MaxChannels: 2}, func(s *stage) {
				e := s.announce("edge-1", "1")
				e.open(s.process)
				if err := e.stream.Send(tt.batch); err != nil && !errors.Is(err, io.EOF) {
					s.Fatal(err)
				}
				_, err := e.stream.Recv()
				s.wantError(err, tt.code, tt.reason)
			})
		})
	}
}

func of(changes ...*edgev1.SessionChange) *edgev1.ReportRequest {
	return &edgev1.ReportRequest{Edge: "edge-1@1", Changes: changes}
}

// TestManySessions reports more than one reply lists.
func TestManySessions(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		var all []*edgev1.SessionChange
		for i := range 1500 {
			all = append(all, there(fmt.Sprintf("s%04d", i), "ann", "/a"))
		}
		e.report(all...)
		resp, err := s.query.GetRoster(s.Context(), &presencev1.GetRosterRequest{Channel: "/a"})
		if err != nil {
			s.Fatal(err)
		}
		if resp.GetCount() != 1500 || len(resp.GetMembers()) != 1000 || !resp.GetTruncated() {
			s.Errorf("count %d, %d members, truncated %v", resp.GetCount(), len(resp.GetMembers()), resp.GetTruncated())
		}
		if last := resp.GetMembers()[999].GetSession(); last != "s0999" {
			s.Errorf("the last member listed is %s", last)
		}
		list, err := s.query.ListSessions(s.Context(), &presencev1.ListSessionsRequest{User: "ann"})
		if err != nil {
			s.Fatal(err)
		}
		if len(list.GetSessions()) != 1000 {
			s.Errorf("%d sessions listed, want 1000", len(list.GetSessions()))
		}
	})
}
