package presence_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/presence"
)

// at is a session's state in a generation.
func at(session string, count uint64, channels ...string) *edgev1.SessionChange {
	c := there(session, "", channels...)
	c.GetPresent().Generation = &edgev1.Generation{Epoch: 1, Count: count}
	c.GetPresent().Resume = []byte("resume")
	c.GetPresent().AdoptableMs = 90_000
	return c
}

func (s *stage) locate(p *process, session string) (*edgev1.LocateResponse, error) {
	return p.record.Locate(s.Context(), &edgev1.LocateRequest{Session: session})
}

func (s *stage) claim(p *process, session, edge string, count uint64) (*edgev1.ClaimResponse, error) {
	return p.record.Claim(s.Context(), &edgev1.ClaimRequest{
		Session: session, Edge: edge, Expected: &edgev1.Generation{Epoch: 1, Count: count},
	})
}

// TestAdoption follows a session whose edge dies to another edge.
func TestAdoption(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		one, two := s.announce("edge-1", "1"), s.announce("edge-2", "1")
		one.report(at("a", 1, "/a"))
		offsets := make([]uint64, shard.Slots)
		offsets[17] = 4711
		one.change()
		one.tell(&edgev1.ReportRequest{Vector: &edgev1.Vector{Offsets: offsets}})
		two.report()
		w := s.watch("/a")
		w.want("+a=1")
		got, err := s.locate(s.process, "a")
		if err != nil || got.GetHome() != "edge-1@1" || got.GetLost() {
			s.Errorf("located %v, %v", got, err)
		}

		one.dir.Kill()
		one.hangUp()
		<-time.After(80 * time.Second) // longer than the grace, shorter than the session asks for
		if got, err = s.locate(s.process, "a"); err != nil || got.GetHome() != "edge-1@1" || !got.GetLost() {
			s.Errorf("located %v, %v", got, err)
		}
		claimed, err := s.claim(s.process, "a", "edge-2@1", 1)
		if err != nil {
			s.Fatal(err)
		}
		if claimed.GetGeneration().GetCount() != 2 || claimed.GetPrevious() != "edge-1@1" || claimed.GetState().GetGeneration().GetCount() != 1 ||
			string(claimed.GetState().GetResume()) != "resume" || claimed.GetVector().GetOffsets()[17] != 4711 {
			s.Errorf("claimed %v", claimed)
		}
		two.change(at("a", 2, "/a"))
		<-time.After(5 * time.Minute)
		s.wantRoster("/a", "[a]")
		two.change(gone("b"), unsubscribed("a", "/a"))
		w.want("-a=0") // and nothing before
	})
}

// TestClaimsAreToldAtOnce tells the old home, and refuses what it says then.
func TestClaimsAreToldAtOnce(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		one, two := s.announce("edge-1", "1"), s.announce("edge-2", "1")
		one.report(at("a", 1, "/a"))
		two.report()
		if _, err := s.claim(s.process, "a", "edge-2@1", 1); err != nil {
			s.Fatal(err)
		}
		wantHome := func(home string, count uint64) {
			s.Helper()
			x := one.answer().GetSuperseded()
			if len(x) != 1 || x[0].GetSession() != "a" || x[0].GetHome() != home || x[0].GetGeneration().GetCount() != count {
				s.Errorf("superseded %v, want by %q in %d", x, home, count)
			}
		}
		wantHome("edge-2@1", 2)
		one.change(at("a", 1, "/b"))
		wantHome("edge-2@1", 2)
		s.wantRoster("/a", "[a]")

		_, err := s.claim(s.process, "a", "edge-1@1", 1)
		s.wantError(err, codes.Aborted, channelv1.ErrorReason_ERROR_REASON_MOVED)
		bye := gone("a")
		bye.GetGone().Generation = &edgev1.Generation{Epoch: 1, Count: 2}
		two.change(bye)
		one.change(at("a", 1, "/b"))
		wantHome("", 2)
		s.wantRoster("/b", "[]")
		if got, err := s.locate(s.process, "a"); err != nil || got.GetHome() != "" {
			s.Errorf("who is over is located at %v, %v", got, err)
		}
		_, err = s.claim(s.process, "a", "edge-1@1", 2)
		s.wantError(err, codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN)
		_, err = s.locate(s.process, "never")
		s.wantError(err, codes.NotFound, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN)
	})
}

// TestCallsWaitUntilAllIsHeard, for a while.
func TestCallsWaitUntilAllIsHeard(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		one := s.announced[0]
		begun := time.Now()
		_, err := s.locate(s.process, "a")
		s.wantError(err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY)
		if took := time.Since(begun); took != 5*time.Second {
			s.Errorf("it took %v", took)
		}
		go func() {
			<-time.After(3 * time.Second)
			one.report(at("a", 1, "/a"))
		}()
		if got, err := s.locate(s.process, "a"); err != nil || got.GetHome() != "edge-1@1" {
			s.Errorf("located %v, %v", got, err)
		}
		_, err = s.claim(s.process, "a", "edge-9@1", 1) // not announced
		s.wantError(err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY)
		for _, req := range []*edgev1.ClaimRequest{{Edge: "edge-1@1"}, {Session: "a", Edge: "edge-1"}} {
			_, err = s.record.Claim(s.Context(), req)
			s.wantError(err, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID)
		}
		_, err = s.locate(s.process, "")
		s.wantError(err, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID)
	}, "edge-1")
}

// TestTwoHolders has each process first holder of half of the shards, and moves
// them all to one.
func TestTwoHolders(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		second := s.start("presence-2", presence.Config{})
		both := func(first func(shard.PresenceShard) bool) {
			s.hold(func(n shard.PresenceShard) shard.Holders {
				if first(n) {
					return shard.Holders{First: "presence-1@1", Second: "presence-2@1"}
				}
				return shard.Holders{First: "presence-2@1", Second: "presence-1@1"}
			})
		}
		both(func(n shard.PresenceShard) bool { return n%2 == 0 })
		e := s.announce("edge-1", "1")
		e2 := *e
		batch := &edgev1.ReportRequest{Edge: "edge-1@1", SyncedShards: everything()}
		ids := []string{"a", "b", "c", "d", "e", "f"}
		firsts := map[bool]string{}
		for _, id := range ids {
			batch.Changes = append(batch.Changes, at(id, 1, "/a"))
			firsts[shard.OfSession(id)%2 == 0] = id
		}
		e.open(s.process)
		e.tell(batch)
		s.wantNotReady() // the other has not heard
		e2.open(second)
		e2.tell(batch)

		for _, p := range []*process{s.process, second} {
			all := &stage{T: s.T, process: p}
			all.wantRoster("/a", "[a b c d e f]")
			list, err := p.query.ListSessions(s.Context(), &presencev1.ListSessionsRequest{})
			if err != nil || len(list.GetSessions()) != len(ids) {
				s.Errorf("%d sessions listed, %v", len(list.GetSessions()), err)
			}
			own := p == s.process
			if _, err := s.locate(p, firsts[own]); err != nil {
				s.Errorf("first holder: %v", err)
			}
			_, err = s.locate(p, firsts[!own])
			s.wantError(err, codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_MOVED)
		}

		w := s.watch("/a")
		told := map[string]bool{}
		for n := range ids {
			got, err := w.stream.Recv()
			if err != nil || got.GetCount() != uint64(n+1) {
				s.Fatalf("%v, %v, want count %d", got, err, n+1)
			}
			told[got.GetJoined().GetSession()] = true
		}
		if len(told) != len(ids) {
			s.Errorf("told of %v", told)
		}
		for _, of := range []*edge{e, &e2} {
			of.change(&edgev1.SessionChange{Session: "c", Change: &edgev1.SessionChange_Gone{
				Gone: &edgev1.SessionGone{Generation: &edgev1.Generation{Epoch: 1, Count: 1}},
			}})
		}
		w.want("-c=5")

		both(func(shard.PresenceShard) bool { return false })
		_, err := w.stream.Recv()
		if reason := s.reason(err); reason != channelv1.ErrorReason_ERROR_REASON_MOVED && reason != channelv1.ErrorReason_ERROR_REASON_NOT_READY {
			s.Errorf("the watch ended with %v", err)
		}
		s.wantRoster("/a", "[a b d e f]") // the second holder knew all
		s.watch("/a").want("+a=1", "+b=2", "+d=3", "+e=4", "+f=5")

		second.drain(context.Canceled)
		synctest.Wait()
		s.wantNotReady()
	})
}

// TestHeldAgain asks edges for what was forgotten.
func TestHeldAgain(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(at("a", 1, "/a"))
		s.hold(func(shard.PresenceShard) shard.Holders { return shard.Holders{First: "presence-2@1"} })
		s.wantGauge("comet_presence_sessions", 0)
		s.hold(func(shard.PresenceShard) shard.Holders { return shard.Holders{First: "presence-1@1"} })
		var wanted []uint32
		for len(wanted) < shard.PresenceShards {
			wanted = append(wanted, e.answer().GetWantedShards()...)
		}
		s.wantNotReady()
		e.tell(&edgev1.ReportRequest{BegunShards: wanted, Changes: []*edgev1.SessionChange{at("a", 1, "/a")}, SyncedShards: wanted})
		s.wantRoster("/a", "[a]")
	})
}

// TestPartsAreAskedByNumber refuses who means other shards.
func TestPartsAreAskedByNumber(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		client := edgev1.NewHolderServiceClient(s.conn)
		moved := channelv1.ErrorReason_ERROR_REASON_MOVED
		_, err := client.Roster(s.Context(), &edgev1.RosterRequest{Shards: make([]byte, 32), Channel: "/a"})
		s.wantError(err, codes.FailedPrecondition, moved)
		_, err = client.Sessions(s.Context(), &edgev1.SessionsRequest{})
		s.wantError(err, codes.FailedPrecondition, moved)
		var watch grpc.ServerStreamingClient[edgev1.WatchResponse]
		if watch, err = client.Watch(s.Context(), &edgev1.WatchRequest{Shards: []byte("x"), Channel: "/a"}); err == nil {
			_, err = watch.Recv()
		}
		s.wantError(err, codes.FailedPrecondition, moved)
	})
}
