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

// queries is what backends call.
type queries struct {
	presencev1.UnimplementedPresenceServiceServer
	service *Service
}

// GetRoster implements [presencev1.PresenceServiceServer].
func (q *queries) GetRoster(ctx context.Context, req *presencev1.GetRosterRequest) (*presencev1.GetRosterResponse, error) {
	return q.service.roster(ctx, req.GetChannel(), maxListed)
}

// GetCount implements [presencev1.PresenceServiceServer].
func (q *queries) GetCount(ctx context.Context, req *presencev1.GetCountRequest) (*presencev1.GetCountResponse, error) {
	roster, err := q.service.roster(ctx, req.GetChannel(), 0)
	if err != nil {
		return nil, err
	}
	return &presencev1.GetCountResponse{Count: roster.GetCount()}, nil
}

// roster counts the members of a channel, and lists the first ones.
func (s *Service) roster(ctx context.Context, channel string, limit uint32) (*presencev1.GetRosterResponse, error) {
	if err := checkChannel(channel); err != nil {
		return nil, err
	}
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
	roster := &presencev1.GetRosterResponse{}
	var lists [][]*presencev1.Member
	for _, a := range answers {
		roster.Count += a.GetRoster().GetCount()
		lists = append(lists, a.GetRoster().GetMembers())
	}
	roster.Members = merge(lists)
	roster.Truncated = roster.GetCount() > uint64(len(roster.GetMembers()))
	return roster, nil
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
	if err := checkChannel(req.GetChannel()); err != nil {
		return err
	}
	groups, news, err := q.service.groups()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	changes, ended := make(chan change), make(chan error, len(groups))
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel(nil)
	for i, g := range groups {
		watches.Go(func() { ended <- q.service.follow(ctx, g, req.GetChannel(), i, changes) })
	}
	counts, sum := make([]uint64, len(groups)), uint64(0)
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
			sum += c.GetCount() - counts[c.from]
			counts[c.from], c.Count = c.GetCount(), sum
			if err := stream.Send(c.WatchRosterResponse); err != nil {
				return err
			}
		case <-news:
			var now []group
			if now, news, err = q.service.groups(); err != nil || !sameGroups(groups, now) {
				return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_MOVED,
					"sessions are held by other presence processes now; watch again")
			}
		}
	}
}

// change is a change of one holder's part of a roster.
type change struct {
	*presencev1.WatchRosterResponse
	from int
}

// follow hands on the changes of one holder's part until ctx ends, or its watch
// does; it says why.
func (s *Service) follow(ctx context.Context, g group, channel string, from int, changes chan<- change) error {
	req := &edgev1.WatchRequest{Shards: g.shards, Channel: channel}
	hand := func(c *presencev1.WatchRosterResponse) error {
		select {
		case changes <- change{c, from}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
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
