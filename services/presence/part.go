package presence

import (
	"bytes"
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/presence/internal/holder"
)

// parts is what presence processes ask each other: each answers of those
// sessions whose shards it is the first holder of.
type parts struct {
	edgev1.UnimplementedHolderServiceServer
	service *Service
}

// Roster implements [edgev1.HolderServiceServer].
func (p *parts) Roster(_ context.Context, req *edgev1.RosterRequest) (*edgev1.RosterResponse, error) {
	roster := &presencev1.GetRosterResponse{}
	err := p.service.read(req.GetShards(), func(h *holder.Holder) error {
		roster.Count = uint64(h.Count(req.GetChannel()))
		for _, m := range h.Members(req.GetChannel(), min(int(req.GetLimit()), maxListed)) {
			roster.Members = append(roster.Members, encodeMember(m))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &edgev1.RosterResponse{Roster: roster}, nil
}

// Sessions implements [edgev1.HolderServiceServer].
func (p *parts) Sessions(_ context.Context, req *edgev1.SessionsRequest) (*edgev1.SessionsResponse, error) {
	list := &presencev1.ListSessionsResponse{}
	err := p.service.read(req.GetShards(), func(h *holder.Holder) error {
		for _, s := range h.Of(req.GetUser(), req.GetAfter(), maxListed) {
			if req.GetIdsOnly() {
				list.Sessions = append(list.Sessions, &presencev1.Session{Session: s.ID})
				continue
			}
			list.Sessions = append(list.Sessions, encodeSession(s))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if req.GetIdsOnly() {
		return &edgev1.SessionsResponse{List: list, More: len(list.GetSessions()) == maxListed}, nil
	}
	list.Sessions = fitting(list.GetSessions())
	return &edgev1.SessionsResponse{List: list}, nil
}

// Watch implements [edgev1.HolderServiceServer].
func (p *parts) Watch(req *edgev1.WatchRequest, stream grpc.ServerStreamingServer[edgev1.WatchResponse]) error {
	return p.service.watch(stream.Context(), req, func(change *presencev1.WatchRosterResponse) error {
		return stream.Send(&edgev1.WatchResponse{Change: change})
	})
}

// watch hands on what becomes of a roster until ctx ends, or the watch does.
func (s *Service) watch(ctx context.Context, req *edgev1.WatchRequest, hand func(*presencev1.WatchRosterResponse) error) error {
	news := make(chan struct{}, 1)
	var w *holder.Watch
	err := s.read(req.GetShards(), func(h *holder.Holder) (err error) {
		w, err = h.Watch(req.GetChannel(), func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
		return err
	})
	if err != nil {
		return err
	}
	defer s.unwatch(w)

	for {
		events, err := s.next(w)
		if err != nil {
			return err
		}
		for _, e := range events {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := hand(encodeEvent(e)); err != nil {
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

// read asks the holder about the shards that it is the first holder of, which
// must be these, once it has heard all edges.
func (s *Service) read(shards []byte, ask func(*holder.Holder) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bytes.Equal(shards, bitmap(s.holder.First())) {
		return moved("this process is the first holder of other shards")
	}
	if err := s.wholeLocked(); err != nil {
		return err
	}
	if err := ask(s.holder); err != nil {
		return tooMuch(err)
	}
	return nil
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
		return nil, moved("this process has become the first holder of other shards")
	}
	return events, err
}

func moved(why string) error {
	return rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_MOVED, "%s", why)
}

// bitmap writes shards down as calls name them.
func bitmap(shards []shard.PresenceShard) []byte {
	b := make([]byte, shard.PresenceShards/8)
	for _, n := range shards {
		b[n/8] |= 1 << (n % 8)
	}
	return b
}
