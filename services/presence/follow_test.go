package presence_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/presence"
)

// TestModes asks of channels of which not everything is told.
func TestModes(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("a", "", "/hidden/a", "/counted/a", "/**"), there("b", "", "/counted/a"))
		for _, channel := range []string{"/hidden/a", "/hidden/**", "/**"} {
			_, err := s.query.GetRoster(s.Context(), &presencev1.GetRosterRequest{Channel: channel})
			s.wantError(err, codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_PRESENCE_OFF)
			_, err = s.query.GetCount(s.Context(), &presencev1.GetCountRequest{Channel: channel})
			s.wantError(err, codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_PRESENCE_OFF)
			_, err = s.watch(channel).stream.Recv()
			s.wantError(err, codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_PRESENCE_OFF)
			_, err = s.follow(channel, 1000).stream.Recv()
			s.wantError(err, codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_PRESENCE_OFF)
		}
		roster, err := s.query.GetRoster(s.Context(), &presencev1.GetRosterRequest{Channel: "/counted/a"})
		if err != nil || roster.GetCount() != 2 || len(roster.GetMembers()) != 0 || !roster.GetTruncated() {
			s.Errorf("roster is %v, %v, want a count of 2", roster, err)
		}
		count, err := s.query.GetCount(s.Context(), &presencev1.GetCountRequest{Channel: "/counted/a"})
		if err != nil || count.GetCount() != 2 {
			s.Errorf("count is %v, %v, want 2", count, err)
		}
		s.follow("/counted/a", 1000).want("2")
		w := s.watch("/counted/a")
		for _, want := range []uint64{2, 1} {
			resp, err := w.stream.Recv()
			if err != nil || resp.GetCount() != want || resp.GetChange() != nil {
				s.Errorf("a watch tells %v, %v, want a count of %d", resp, err, want)
			}
			e.change(gone("b"))
		}
	})
}

// following is a roster that is followed.
type following struct {
	s      *stage
	stream edgev1.RosterService_FollowClient
}

func (s *stage) follow(channel string, limit uint32) *following {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(cancel)
	stream, err := edgev1.NewRosterServiceClient(s.conn).Follow(ctx, &edgev1.FollowRequest{Channel: channel, Limit: limit})
	if err != nil {
		s.Fatal(err)
	}
	return &following{s, stream}
}

// want reads a change: its count, then = if it is whole, and who joined and left.
func (f *following) want(want string) {
	f.s.Helper()
	resp, err := f.stream.Recv()
	if err != nil {
		f.s.Fatal(err)
	}
	c := resp.GetChange()
	got := fmt.Sprint(c.GetCount())
	if c.GetWhole() {
		got += " ="
	}
	for _, m := range c.GetJoined() {
		got += " +" + m.GetSession()
		if m.GetEdge() != "" {
			f.s.Errorf("%s is said to be at %s", m.GetSession(), m.GetEdge())
		}
	}
	for _, session := range c.GetLeft() {
		got += " -" + session
	}
	if !c.GetListed() && got != fmt.Sprint(c.GetCount()) {
		f.s.Errorf("not listed, and yet %v", c)
	}
	if got != want {
		f.s.Errorf("change is %q, want %q", got, want)
	}
}

// quiet wants nothing to be told for a minute.
func (f *following) quiet() {
	f.s.Helper()
	told := make(chan struct{})
	go func() {
		defer close(told)
		_, _ = f.stream.Recv() // ends with the test, if not before
	}()
	select {
	case <-told:
		f.s.Error("something is told where nothing changed")
	case <-time.After(time.Minute):
	}
}

func TestFollow(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("b", "bob", "/a"), there("a", "", "/a"), there("x", "", "/x"))
		f := s.follow("/a", 3)
		f.want("2 = +a +b")
		begun := time.Now()
		e.change(there("c", "", "/a"), gone("a"))
		e.change(unsubscribed("b", "/a"))
		e.change(there("d", "", "/a"), gone("d")) // of which nothing is told
		f.want("1 +c -a -b")
		if took := time.Since(begun); took > 250*time.Millisecond {
			s.Errorf("told after %v", took)
		}
		e.change(subscribed("b", "/a"), subscribed("x", "/a"), there("e", "", "/a"))
		f.want("4")
		e.change(gone("e"))
		f.want("3 = +b +c +x") // 3 are few enough again: a tenth of 3 is nothing
		e.change(unsubscribed("c", "/a"))
		e.change(subscribed("c", "/a"))
		f.quiet()
	})
}

// TestFollowMany has as many members that they are only counted.
func TestFollowMany(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		var all []*edgev1.SessionChange
		for n := range 1001 {
			all = append(all, there(fmt.Sprintf("s%04d", n), "", "/a"))
		}
		e.report(all...)
		f := s.follow("/a", 5000)
		f.want("1001")
		e.change(gone("s0000"), gone("s0001"))
		f.want("999")
		for n := 2; n < 101; n++ {
			e.change(gone(fmt.Sprintf("s%04d", n)))
		}
		var want strings.Builder
		for n := 101; n < 1001; n++ {
			fmt.Fprintf(&want, " +s%04d", n)
		}
		f.want("900 =" + want.String())
	})
}

// TestFollowParts follows a roster that two processes have parts of, and that
// moves to one of them.
func TestFollowParts(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		other := s.start("presence-2", presence.Config{})
		s.hold(func(n shard.PresenceShard) shard.Holders {
			if n%2 == 0 {
				return shard.Holders{First: "presence-1@1", Second: "presence-2@1"}
			}
			return shard.Holders{First: "presence-2@1", Second: "presence-1@1"}
		})
		e, same := s.announce("edge-1", "1"), &edge{}
		changes := []*edgev1.SessionChange{there("a", "", "/a"), there("b", "", "/a"), there("c", "", "/a"), there("d", "", "/a")}
		e.report(changes...)
		*same = *e
		same.open(other)
		same.tell(&edgev1.ReportRequest{Edge: e.node.Member(), Changes: changes, BegunShards: everything(), SyncedShards: everything()})
		if odd := slices.IndexFunc(changes, func(c *edgev1.SessionChange) bool { return shard.OfSession(c.GetSession())%2 == 1 }); odd < 0 {
			s.Fatal("all sessions are at one holder")
		}
		f := s.follow("/a", 1000)
		f.want("4 = +a +b +c +d")
		e.change(gone("a"))
		same.change(gone("a"))
		f.want("3 -a")
		s.hold(func(shard.PresenceShard) shard.Holders {
			return shard.Holders{First: "presence-1@1", Second: "presence-2@1"}
		})
		_, err := f.stream.Recv()
		if reason := s.reason(err); reason != channelv1.ErrorReason_ERROR_REASON_MOVED && reason != channelv1.ErrorReason_ERROR_REASON_NOT_READY {
			s.Errorf("when shards move it ends with %v", err)
		}
		synctest.Wait()
		s.follow("/a", 1000).want("3 = +b +c +d")
	})
}

// TestFollowWaitsForEdges asks before an edge has told of its sessions.
func TestFollowWaitsForEdges(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		_, err := s.follow("/a", 1000).stream.Recv()
		s.wantError(err, codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY)
		s.announced[0].report(there("a", "", "/a"))
		s.follow("/a", 1000).want("1 = +a")
	}, "edge-1")
}
