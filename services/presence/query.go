package presence

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/presence/internal/roster"
)

const (
	// maxListed bounds what one reply lists.
	maxListed = 1000
	// maxListedBytes bounds the channels of the sessions that one reply lists.
	maxListedBytes = 8 << 20
	// maxUserBytes bounds the name of a user.
	maxUserBytes = 256
)

// queries is what backends call.
type queries struct {
	presencev1.UnimplementedPresenceServiceServer
	service *Service
}

// GetRoster implements [presencev1.PresenceServiceServer].
func (q *queries) GetRoster(_ context.Context, req *presencev1.GetRosterRequest) (*presencev1.GetRosterResponse, error) {
	channel := req.GetChannel()
	if err := checkChannel(channel); err != nil {
		return nil, err
	}
	var count int
	var members []roster.Member
	err := q.service.read(func(r *roster.Roster) {
		count, members = r.Count(channel), r.Members(channel, maxListed)
	})
	if err != nil {
		return nil, err
	}
	resp := &presencev1.GetRosterResponse{Count: uint64(count), Truncated: count > len(members)}
	for _, m := range members {
		resp.Members = append(resp.Members, encodeMember(m))
	}
	return resp, nil
}

// GetCount implements [presencev1.PresenceServiceServer].
func (q *queries) GetCount(_ context.Context, req *presencev1.GetCountRequest) (*presencev1.GetCountResponse, error) {
	if err := checkChannel(req.GetChannel()); err != nil {
		return nil, err
	}
	var count int
	if err := q.service.read(func(r *roster.Roster) { count = r.Count(req.GetChannel()) }); err != nil {
		return nil, err
	}
	return &presencev1.GetCountResponse{Count: uint64(count)}, nil
}

// ListSessions implements [presencev1.PresenceServiceServer]. It lists fewer
// sessions than it could if they subscribe to very many channels.
func (q *queries) ListSessions(_ context.Context, req *presencev1.ListSessionsRequest) (*presencev1.ListSessionsResponse, error) {
	if len(req.GetUser()) > maxUserBytes {
		return nil, invalid("user has %d bytes; at most %d are allowed", len(req.GetUser()), maxUserBytes)
	}
	var sessions []roster.Session
	if err := q.service.read(func(r *roster.Roster) { sessions = r.Of(req.GetUser(), maxListed) }); err != nil {
		return nil, err
	}
	resp := new(presencev1.ListSessionsResponse)
	bytes := 0
	for _, s := range sessions {
		for _, c := range s.Channels {
			bytes += len(c)
		}
		if bytes > maxListedBytes {
			break
		}
		resp.Sessions = append(resp.Sessions, encodeSession(s))
	}
	return resp, nil
}

// WatchRoster implements [presencev1.PresenceServiceServer].
func (q *queries) WatchRoster(req *presencev1.WatchRosterRequest, stream grpc.ServerStreamingServer[presencev1.WatchRosterResponse]) error {
	if err := checkChannel(req.GetChannel()); err != nil {
		return err
	}
	news := make(chan struct{}, 1)
	w, err := q.service.watch(req.GetChannel(), func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer q.service.unwatch(w)

	for ctx := stream.Context(); ; {
		events, err := q.service.next(w)
		if err != nil {
			return err
		}
		for _, e := range events {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := stream.Send(encodeEvent(e)); err != nil {
				return err
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-news:
		}
	}
}

// read asks the roster, once it is whole.
func (s *Service) read(ask func(*roster.Roster)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.wholeLocked(); err != nil {
		return err
	}
	ask(s.roster)
	return nil
}

func (s *Service) watch(channel string, notify func()) (*roster.Watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.wholeLocked(); err != nil {
		return nil, err
	}
	w, err := s.roster.Watch(channel, notify)
	if err != nil {
		return nil, tooMuch(err)
	}
	return w, nil
}

func (s *Service) unwatch(w *roster.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Close()
}

// next returns a watch's news, or why it is over.
func (s *Service) next(w *roster.Watch) ([]roster.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, err := w.Next()
	if errors.Is(err, roster.ErrSlow) {
		s.metrics.slow.Inc()
		return nil, rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"more than %d changes waited for this watch; read faster, and watch again", s.cfg.WatchQueue)
	}
	return events, err
}

func checkChannel(channel string) error {
	if err := bayeux.ParseChannel(channel); err != nil {
		return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, "%v", err)
	}
	return nil
}

func encodeMember(m roster.Member) *presencev1.Member {
	return &presencev1.Member{Session: m.Session, User: m.User, Since: timestamppb.New(m.Since), Edge: nameOf(m.Edge)}
}

func encodeSession(s roster.Session) *presencev1.Session {
	return &presencev1.Session{
		Session: s.ID, User: s.User, Edge: nameOf(s.Edge), Transport: s.Transport,
		Since: timestamppb.New(s.Since), Channels: s.Channels,
	}
}

func encodeEvent(e roster.Event) *presencev1.WatchRosterResponse {
	resp := &presencev1.WatchRosterResponse{Count: e.Count}
	if member := encodeMember(e.Member); e.Joined {
		resp.Change = &presencev1.WatchRosterResponse_Joined{Joined: member}
	} else {
		resp.Change = &presencev1.WatchRosterResponse_Left{Left: member}
	}
	return resp
}
