package presence

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/roster"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/presence/internal/holder"
)

const (
	// maxListed bounds what one reply lists.
	maxListed = roster.Most
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
func (q *queries) GetRoster(ctx context.Context, req *presencev1.GetRosterRequest) (*presencev1.GetRosterResponse, error) {
	limit, err := q.service.listed(req.GetChannel())
	if err != nil {
		return nil, err
	}
	return q.service.roster(ctx, req.GetChannel(), uint32(limit))
}

// GetCount implements [presencev1.PresenceServiceServer].
func (q *queries) GetCount(ctx context.Context, req *presencev1.GetCountRequest) (*presencev1.GetCountResponse, error) {
	if _, err := q.service.listed(req.GetChannel()); err != nil {
		return nil, err
	}
	counted, err := q.service.roster(ctx, req.GetChannel(), 0)
	if err != nil {
		return nil, err
	}
	return &presencev1.GetCountResponse{Count: counted.GetCount()}, nil
}

// roster counts the members of a channel, and lists the first ones.
func (s *Service) roster(ctx context.Context, channel string, limit uint32) (*presencev1.GetRosterResponse, error) {
	answers, err := gather(ctx, s, func(ctx context.Context, g group) (*edgev1.RosterResponse, error) {
		req := &edgev1.RosterRequest{Shards: g.shards, Channel: channel, Limit: limit}
		client, err := s.client(g)
		switch {
		case err != nil:
			return nil, err
		case client == nil:
			return (&parts{service: s}).Roster(ctx, req)
		}
		return client.Roster(ctx, req)
	})
	if err != nil {
		return nil, err
	}
	whole := &presencev1.GetRosterResponse{}
	var lists [][]*presencev1.Member
	for _, a := range answers {
		whole.Count += a.GetRoster().GetCount()
		lists = append(lists, a.GetRoster().GetMembers())
	}
	whole.Members = merge(lists)
	whole.Truncated = whole.GetCount() > uint64(len(whole.GetMembers()))
	return whole, nil
}

// ListSessions implements [presencev1.PresenceServiceServer]. It lists fewer
// sessions than it could if they subscribe to very many channels.
func (q *queries) ListSessions(ctx context.Context, req *presencev1.ListSessionsRequest) (*presencev1.ListSessionsResponse, error) {
	if len(req.GetUser()) > maxUserBytes {
		return nil, invalid("user has %d bytes; at most %d are allowed", len(req.GetUser()), maxUserBytes)
	}
	answers, err := gather(ctx, q.service, func(ctx context.Context, g group) (*edgev1.SessionsResponse, error) {
		part := &edgev1.SessionsRequest{Shards: g.shards, User: req.GetUser()}
		client, err := q.service.client(g)
		switch {
		case err != nil:
			return nil, err
		case client == nil:
			return (&parts{service: q.service}).Sessions(ctx, part)
		}
		return client.Sessions(ctx, part)
	})
	if err != nil {
		return nil, err
	}
	var lists [][]*presencev1.Session
	for _, a := range answers {
		lists = append(lists, a.GetList().GetSessions())
	}
	return &presencev1.ListSessionsResponse{Sessions: fitting(merge(lists))}, nil
}

// fitting returns as many sessions as one reply can list.
func fitting(sessions []*presencev1.Session) []*presencev1.Session {
	bytes := 0
	for i, s := range sessions {
		for _, c := range s.GetChannels() {
			bytes += len(c)
		}
		if bytes > maxListedBytes {
			return sessions[:i]
		}
	}
	return sessions
}

// WatchRoster implements [presencev1.PresenceServiceServer]. Each first holder
// has a watch of its own.
func (q *queries) WatchRoster(req *presencev1.WatchRosterRequest, stream grpc.ServerStreamingServer[presencev1.WatchRosterResponse]) error {
	limit, err := q.service.listed(req.GetChannel())
	switch {
	case err != nil:
		return err
	case limit == 0:
		return q.service.followRoster(stream.Context(), req.GetChannel(), 0, func(c roster.Change) error {
			return stream.Send(&presencev1.WatchRosterResponse{Count: c.Count})
		})
	}
	var counts []uint64 // of each holder's members
	sum := uint64(0)
	return watchAll(stream.Context(), q.service, func(ctx context.Context, g group, hand func(*presencev1.WatchRosterResponse) error) error {
		return q.service.follow(ctx, g, req.GetChannel(), hand)
	}, func(from, of int, c *presencev1.WatchRosterResponse) error {
		if counts == nil {
			counts = make([]uint64, of)
		}
		sum += c.GetCount() - counts[from]
		counts[from], c.Count = c.GetCount(), sum
		return stream.Send(c)
	})
}

// watchAll watches at the first holders of all shards, and has what they tell
// taken, with the number of the holder, one at a time. It returns why it ended:
// ctx did, or a watch, or others hold the shards.
func watchAll[C any](
	ctx context.Context, s *Service,
	watch func(ctx context.Context, g group, hand func(C) error) error, take func(from, of int, c C) error,
) error {
	groups, news, err := s.groups()
	if err != nil {
		return err
	}
	type change struct {
		from int
		what C
	}
	ctx, cancel := context.WithCancelCause(ctx)
	changes, ended := make(chan change), make(chan error, len(groups))
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel(nil)
	for i, g := range groups {
		watches.Go(func() {
			ended <- watch(ctx, g, func(c C) error {
				select {
				case changes <- change{i, c}:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		})
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		case c := <-changes:
			if err := take(c.from, len(groups), c.what); err != nil {
				return err
			}
		case <-news:
			var now []group
			if now, news, err = s.groups(); err != nil || !sameGroups(groups, now) {
				return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_MOVED,
					"sessions are held by other presence processes now; watch again")
			}
		}
	}
}

// follow hands on the changes of one holder's part until ctx ends, or its watch
// does; it says why.
func (s *Service) follow(ctx context.Context, g group, channel string, hand func(*presencev1.WatchRosterResponse) error) error {
	req := &edgev1.WatchRequest{Shards: g.shards, Channel: channel}
	client, err := s.client(g)
	switch {
	case err != nil:
		return unanswered(g, err)
	case client == nil:
		return s.unwatched(g, s.watch(ctx, req, hand))
	}
	stream, err := client.Watch(ctx, req)
	for err == nil {
		var resp *edgev1.WatchResponse
		if resp, err = stream.Recv(); err == nil {
			err = hand(resp.GetChange())
		}
	}
	return s.unwatched(g, err)
}

// unwatched says why a watch ended.
func (s *Service) unwatched(g group, err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("its watch ended")
	}
	return unanswered(g, err)
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
