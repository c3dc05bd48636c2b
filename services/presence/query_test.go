package presence_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/membership/memory"
	"github.com/comet-push/comet/services/presence"
)

func newStore() *memory.Store { return memory.NewStore(0) }

// watcher reads a watch.
type watcher struct {
	s      *stage
	stream presencev1.PresenceService_WatchRosterClient
}

func (s *stage) watch(channel string) *watcher {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.Cleanup(cancel)
	stream, err := s.query.WatchRoster(ctx, &presencev1.WatchRosterRequest{Channel: channel})
	if err != nil {
		s.Fatal(err)
	}
	return &watcher{s, stream}
}

// want reads as many changes as named, +session=count or -session=count.
func (w *watcher) want(changes ...string) {
	w.s.Helper()
	var got []string
	for range changes {
		e, err := w.stream.Recv()
		if err != nil {
			w.s.Fatal(err)
		}
		if m := e.GetJoined(); m != nil {
			got = append(got, fmt.Sprintf("+%s=%d", m.GetSession(), e.GetCount()))
		} else {
			got = append(got, fmt.Sprintf("-%s=%d", e.GetLeft().GetSession(), e.GetCount()))
		}
	}
	if diff := cmp.Diff(changes, got); diff != "" {
		w.s.Errorf("watch (-want +got):\n%s", diff)
	}
}

func TestWhatIsTold(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("a", "ann", "/b", "/a"))
		<-time.After(time.Minute)
		e.change(subscribed("a", "/c"))
		subscribedAt := timestamppb.New(time.Now())

		list, err := s.query.ListSessions(s.Context(), &presencev1.ListSessionsRequest{User: "ann"})
		if err != nil {
			s.Fatal(err)
		}
		if diff := cmp.Diff(&presencev1.ListSessionsResponse{Sessions: []*presencev1.Session{{
			Session: "a", User: "ann", Edge: "edge-1", Transport: "long-polling",
			Since: timestamppb.New(since), Channels: []string{"/a", "/b", "/c"},
		}}}, list, protocmp.Transform()); diff != "" {
			s.Errorf("sessions (-want +got):\n%s", diff)
		}
		for channel, at := range map[string]*timestamppb.Timestamp{"/a": timestamppb.New(since), "/c": subscribedAt} {
			got, err := s.query.GetRoster(s.Context(), &presencev1.GetRosterRequest{Channel: channel})
			if err != nil {
				s.Fatal(err)
			}
			if diff := cmp.Diff(&presencev1.GetRosterResponse{Count: 1, Members: []*presencev1.Member{{
				Session: "a", User: "ann", Since: at, Edge: "edge-1",
			}}}, got, protocmp.Transform()); diff != "" {
				s.Errorf("roster of %s (-want +got):\n%s", channel, diff)
			}
		}
		for user, want := range map[string]int{"": 1, "bob": 0} {
			list, err := s.query.ListSessions(s.Context(), &presencev1.ListSessionsRequest{User: user})
			if err != nil || len(list.GetSessions()) != want {
				s.Errorf("sessions of %q: %v, %v, want %d", user, list, err, want)
			}
		}
	})
}

func TestWatch(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report(there("b", "", "/a"), there("a", "", "/a"), there("x", "", "/x"))
		w, empty := s.watch("/a"), s.watch("/empty")
		w.want("+a=1", "+b=2")
		e.change(there("c", "", "/a"), subscribed("x", "/a"), unsubscribed("a", "/a"), gone("b"))
		w.want("+c=3", "+x=4", "-a=3", "-b=2")
		e.change(subscribed("x", "/empty"))
		empty.want("+x=1")

		synctest.Wait()
		ended := make(chan error)
		go func() { _, err := w.stream.Recv(); ended <- err }()
		<-time.After(time.Hour)
		select {
		case err := <-ended:
			s.Errorf("a quiet watch ended: %v", err)
		default:
		}
		e.change(gone("c"))
		if err := <-ended; err != nil {
			s.Errorf("after an hour: %v", err)
		}
	})
}

// TestSlowWatch does not read while much happens.
func TestSlowWatch(t *testing.T) {
	play(t, presence.Config{WatchQueue: 100, MaxWatches: 1}, func(s *stage) {
		e := s.announce("edge-1", "1")
		e.report()
		w := s.watch("/a")
		synctest.Wait()
		s.wantGauge("comet_presence_watchers", 1)
		user := strings.Repeat("u", 200)
		for i := range 3000 {
			e.change(there(fmt.Sprintf("s%04d", i), user, "/a"))
		}
		var err error
		read := 0
		for ; err == nil; read++ {
			_, err = w.stream.Recv()
		}
		if errors.Is(err, io.EOF) || read > 2500 {
			s.Errorf("ended after %d changes", read)
		}
		s.wantError(err, codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
		synctest.Wait()
		s.wantGauge("comet_presence_watchers", 0)
		s.wantGauge("comet_presence_sessions", 3000)

		s.watch("/b")
		synctest.Wait()
		_, err = s.watch("/b").stream.Recv()
		s.wantError(err, codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	})
}

func TestQueriesRefuseNonsense(t *testing.T) {
	play(t, presence.Config{}, func(s *stage) {
		for _, channel := range []string{"", "a", "/a//b", "/a/"} {
			_, err := s.query.GetRoster(s.Context(), &presencev1.GetRosterRequest{Channel: channel})
			s.wantError(err, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID)
			_, err = s.query.GetCount(s.Context(), &presencev1.GetCountRequest{Channel: channel})
			s.wantError(err, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID)
			_, err = s.watch(channel).stream.Recv()
			s.wantError(err, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID)
		}
		_, err := s.query.ListSessions(s.Context(), &presencev1.ListSessionsRequest{User: strings.Repeat("u", 257)})
		s.wantError(err, codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID)
	})
}

// wantGauge wants a metric without labels to have a value.
func (s *stage) wantGauge(name string, want float64) {
	s.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			if got := f.GetMetric()[0].GetGauge().GetValue(); got != want {
				s.Errorf("%s is %v, want %v", name, got, want)
			}
			return
		}
	}
	s.Errorf("no metric %s", name)
}
