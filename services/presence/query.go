package presence

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/presence/internal/holder"
)

const (
	// maxListed bounds what one reply lists.
	maxListed = 1000
	// maxListedBytes bounds the channels of the sessions that one reply lists.
	maxListedBytes = 8 << 20
	// maxUserBytes bounds the name of a user.
	maxUserBytes = 256
)

// queries is what backends call, and other presence processes on their behalf.
type queries struct {
	presencev1.UnimplementedPresenceServiceServer
	service    *Service
	everywhere bool // the others are asked, too
}

// GetRoster implements [presencev1.PresenceServiceServer].
func (q *queries) GetRoster(ctx context.Context, req *presencev1.GetRosterRequest) (*presencev1.GetRosterResponse, error) {
	channel := req.GetChannel()
	if err := checkChannel(channel); err != nil {
		return nil, err
	}
	resp := new(presencev1.GetRosterResponse)
	err := q.service.read(func(h *holder.Holder) {
		resp.Count = uint64(h.Count(channel))
		for _, m := range h.Members(channel, maxListed) {
			resp.Members = append(resp.Members, encodeMember(m))
		}
	})
	if err != nil {
		return nil, err
	}
	err = askOthers(ctx, q, func(ctx context.Context, other presencev1.PresenceServiceClient) (*presencev1.GetRosterResponse, error) {
		return other.GetRoster(ctx, req)
	}, func(more *presencev1.GetRosterResponse) {
		resp.Count += more.GetCount()
		resp.Members = append(resp.Members, more.GetMembers()...)
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(resp.Members, func(a, b *presencev1.Member) int { return cmp.Compare(a.GetSession(), b.GetSession()) })
	resp.Members = resp.Members[:min(len(resp.Members), maxListed)]
	resp.Truncated = resp.GetCount() > uint64(len(resp.GetMembers()))
	return resp, nil
}

// GetCount implements [presencev1.PresenceServiceServer].
func (q *queries) GetCount(ctx context.Context, req *presencev1.GetCountRequest) (*presencev1.GetCountResponse, error) {
	if err := checkChannel(req.GetChannel()); err != nil {
		return nil, err
	}
	resp := new(presencev1.GetCountResponse)
	if err := q.service.read(func(h *holder.Holder) { resp.Count = uint64(h.Count(req.GetChannel())) }); err != nil {
		return nil, err
	}
	err := askOthers(ctx, q, func(ctx context.Context, other presencev1.PresenceServiceClient) (*presencev1.GetCountResponse, error) {
		return other.GetCount(ctx, req)
	}, func(more *presencev1.GetCountResponse) { resp.Count += more.GetCount() })
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListSessions implements [presencev1.PresenceServiceServer]. It lists fewer
// sessions than it could if they subscribe to very many channels.
func (q *queries) ListSessions(ctx context.Context, req *presencev1.ListSessionsRequest) (*presencev1.ListSessionsResponse, error) {
	if len(req.GetUser()) > maxUserBytes {
		return nil, invalid("user has %d bytes; at most %d are allowed", len(req.GetUser()), maxUserBytes)
	}
	var sessions []*presencev1.Session
	err := q.service.read(func(h *holder.Holder) {
		for _, s := range h.Of(req.GetUser(), maxListed) {
			sessions = append(sessions, encodeSession(s))
		}
	})
	if err != nil {
		return nil, err
	}
	err = askOthers(ctx, q, func(ctx context.Context, other presencev1.PresenceServiceClient) (*presencev1.ListSessionsResponse, error) {
		return other.ListSessions(ctx, req)
	}, func(more *presencev1.ListSessionsResponse) { sessions = append(sessions, more.GetSessions()...) })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(sessions, func(a, b *presencev1.Session) int { return cmp.Compare(a.GetSession(), b.GetSession()) })
	resp := new(presencev1.ListSessionsResponse)
	bytes := 0
	for _, s := range sessions[:min(len(sessions), maxListed)] {
		for _, c := range s.GetChannels() {
			bytes += len(c)
		}
		if bytes > maxListedBytes {
			break
		}
		resp.Sessions = append(resp.Sessions, s)
	}
	return resp, nil
}

// WatchRoster implements [presencev1.PresenceServiceServer].
func (q *queries) WatchRoster(req *presencev1.WatchRosterRequest, stream grpc.ServerStreamingServer[presencev1.WatchRosterResponse]) error {
	if err := checkChannel(req.GetChannel()); err != nil {
		return err
	}
	return q.watch(stream.Context(), req, stream.Send)
}

// watchHere sends what happens on a roster among the sessions of this process,
// until ctx ends.
func (q *queries) watchHere(ctx context.Context, channel string, send func(*presencev1.WatchRosterResponse) error) error {
	news := make(chan struct{}, 1)
	w, err := q.service.watch(channel, func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer q.service.unwatch(w)
	for {
		events, err := q.service.next(w)
		if err != nil {
			return err
		}
		for _, e := range events {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := send(encodeEvent(e)); err != nil {
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

// read asks the holder, once it is whole.
func (s *Service) read(ask func(*holder.Holder)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.wholeLocked(); err != nil {
		return err
	}
	ask(s.holder)
	return nil
}

func (s *Service) watch(channel string, notify func()) (*holder.Watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.wholeLocked(); err != nil {
		return nil, err
	}
	w, err := s.holder.Watch(channel, notify)
	if err != nil {
		return nil, tooMuch(err)
	}
	return w, nil
}

func (s *Service) unwatch(w *holder.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Close()
}

// next returns a watch's news, or why it is over.
func (s *Service) next(w *holder.Watch) ([]holder.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events, err := w.Next()
	switch {
	case errors.Is(err, holder.ErrSlow):
		s.metrics.slow.Inc()
		return nil, rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"more than %d changes waited for this watch; read faster, and watch again", s.cfg.WatchQueue)
	case errors.Is(err, holder.ErrMoved):
		return nil, movedMeanwhile()
	}
	return events, err
}

func movedMeanwhile() error {
	return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
		"other presence processes hold these records now; watch again")
}

func checkChannel(channel string) error {
	if err := bayeux.ParseChannel(channel); err != nil {
		return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, "%v", err)
	}
	return nil
}

func encodeMember(m holder.Member) *presencev1.Member {
	return &presencev1.Member{Session: m.Session, User: m.User, Since: timestamppb.New(m.Since), Edge: nameOf(m.Edge)}
}

func encodeSession(s holder.Session) *presencev1.Session {
	return &presencev1.Session{
		Session: s.ID, User: s.User, Edge: nameOf(s.Edge), Transport: s.Transport,
		Since: timestamppb.New(s.Since), Channels: s.Channels,
	}
}

func encodeEvent(e holder.Event) *presencev1.WatchRosterResponse {
	resp := &presencev1.WatchRosterResponse{Count: e.Count}
	if member := encodeMember(e.Member); e.Joined {
		resp.Change = &presencev1.WatchRosterResponse_Joined{Joined: member}
	} else {
		resp.Change = &presencev1.WatchRosterResponse_Left{Left: member}
	}
	return resp
}
