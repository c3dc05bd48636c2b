package presence

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/namespace"
	"github.com/comet-push/comet/internal/roster"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/presence/internal/holder"
)

// rosters is what edges follow for browsers.
type rosters struct {
	edgev1.UnimplementedRosterServiceServer

	service *Service
	follows atomic.Int32
}

// mostFollows is how many rosters are followed at one process: half as many as a
// connection to another one has streams.
const mostFollows = 5_000

// Follow implements [edgev1.RosterServiceServer].
func (r *rosters) Follow(req *edgev1.FollowRequest, stream grpc.ServerStreamingServer[edgev1.FollowResponse]) error {
	limit, err := r.service.listed(req.GetChannel())
	if err != nil {
		return err
	}
	limit = min(limit, int(req.GetLimit()))
	defer r.follows.Add(-1)
	if r.follows.Add(1) > mostFollows {
		return rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"%d rosters are followed here already; try another presence process", mostFollows)
	}
	return r.service.followRoster(stream.Context(), req.GetChannel(), limit, func(c roster.Change) error {
		return stream.Send(&edgev1.FollowResponse{Change: encodeChange(c)})
	})
}

// listed returns how many members of a channel may be listed, none if they may
// only be counted; or it says that nothing of them may be told.
func (s *Service) listed(channel string) (int, error) {
	if err := checkChannel(channel); err != nil {
		return 0, err
	}
	switch s.deps.Namespaces.Presence(channel) {
	case namespace.Off:
		return 0, rpc.Error(codes.PermissionDenied, channelv1.ErrorReason_ERROR_REASON_PRESENCE_OFF,
			"nobody is told who is on %s; give it a namespace with presence: members", channel)
	case namespace.Count:
		return 0, nil
	}
	return roster.Most, nil
}

// followRoster hands on what becomes of a roster, of all sessions, until ctx ends
// or not all of it can be told. At most limit members are listed.
func (s *Service) followRoster(ctx context.Context, channel string, limit int, hand func(roster.Change) error) error {
	whole := merger{limit: limit, hand: hand}
	return watchAll(ctx, s, func(ctx context.Context, g group, hand func(*edgev1.RosterChange) error) error {
		return s.followPart(ctx, g, &edgev1.PartRequest{Shards: g.shards, Channel: channel, Limit: uint32(limit)}, hand)
	}, whole.take)
}

// merger makes a roster of its parts, and hands on what becomes of it once all
// are known.
type merger struct {
	limit int
	hand  func(roster.Change) error

	parts   map[int]roster.State // those that are known
	told    roster.State
	telling bool
}

// take takes a change of one part of so many.
func (m *merger) take(from, of int, c *edgev1.RosterChange) error {
	if m.parts == nil {
		m.parts = make(map[int]roster.State, of)
	}
	if m.parts[from] = m.parts[from].After(decodeChange(c)); len(m.parts) < of {
		return nil
	}
	now := roster.Join(slices.Collect(maps.Values(m.parts))).Bound(m.limit, m.told.Listed || !m.telling)
	change, differs := m.told.Until(now)
	if !m.telling {
		change, differs = now.Whole(), true
	}
	m.told, m.telling = now, true
	if !differs {
		return nil
	}
	return m.hand(change)
}

// followPart hands on what becomes of one holder's part until ctx ends, or the
// holder does not tell any more; it says why.
func (s *Service) followPart(ctx context.Context, g group, req *edgev1.PartRequest, hand func(*edgev1.RosterChange) error) error {
	client, err := s.client(g)
	switch {
	case err != nil:
		return unanswered(g, err)
	case client == nil:
		return s.unwatched(g, s.part(ctx, req, hand))
	}
	stream, err := client.Part(ctx, req)
	for err == nil {
		var resp *edgev1.PartResponse
		if resp, err = stream.Recv(); err == nil {
			err = hand(resp.GetChange())
		}
	}
	return s.unwatched(g, err)
}

// Part implements [edgev1.HolderServiceServer].
func (p *parts) Part(req *edgev1.PartRequest, stream grpc.ServerStreamingServer[edgev1.PartResponse]) error {
	return p.service.part(stream.Context(), req, func(c *edgev1.RosterChange) error {
		return stream.Send(&edgev1.PartResponse{Change: c})
	})
}

// part hands on what becomes of this holder's part of a roster until ctx ends, or
// it holds other shards. It looks at it after changes, and tells what differs from
// what it told: so it is never behind, however many changes there are.
func (s *Service) part(ctx context.Context, req *edgev1.PartRequest, hand func(*edgev1.RosterChange) error) error {
	news := make(chan struct{}, 1)
	var w *holder.Watch
	err := s.read(req.GetShards(), func(h *holder.Holder) (err error) {
		w, err = h.Heed(req.GetChannel(), func() {
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

	limit := min(int(req.GetLimit()), roster.Most)
	told := roster.State{}
	for begun := false; ; begun = true {
		now, err := s.look(w, req.GetChannel(), limit, told.Listed || !begun)
		if err != nil {
			return err
		}
		change, differs := told.Until(now)
		if !begun {
			change, differs = now.Whole(), true
		}
		told = now
		if differs {
			if err := hand(encodeChange(change)); err != nil {
				return err
			}
			backoff.Pause(ctx, roster.Every)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-news:
		}
	}
}

// look returns what there is of a channel that is watched, listed if it is to be,
// or why the watch is over.
func (s *Service) look(w *holder.Watch, channel string, limit int, before bool) (roster.State, error) {
	if _, err := s.next(w); err != nil {
		return roster.State{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.holder.Count(channel)
	if !roster.Lists(uint64(n), limit, before) {
		return roster.Counted(uint64(n)), nil
	}
	members := make([]roster.Member, 0, n)
	for m := range s.holder.Everyone(channel) {
		members = append(members, roster.Member{Session: m.Session, User: m.User, Since: m.Since})
	}
	return roster.Of(members), nil
}

func encodeChange(c roster.Change) *edgev1.RosterChange {
	m := &edgev1.RosterChange{Count: c.Count, Listed: c.Listed, Whole: c.Whole}
	for _, j := range c.Joined {
		m.Joined = append(m.Joined, &presencev1.Member{Session: j.Session, User: j.User, Since: timestamppb.New(j.Since)})
	}
	for _, l := range c.Left {
		m.Left = append(m.Left, l.Session)
	}
	return m
}

func decodeChange(m *edgev1.RosterChange) roster.Change {
	c := roster.Change{Count: m.GetCount(), Listed: m.GetListed(), Whole: m.GetWhole()}
	for _, j := range m.GetJoined() {
		c.Joined = append(c.Joined, roster.Member{Session: j.GetSession(), User: j.GetUser(), Since: j.GetSince().AsTime()})
	}
	for _, session := range m.GetLeft() {
		c.Left = append(c.Left, roster.Member{Session: session})
	}
	return c
}
