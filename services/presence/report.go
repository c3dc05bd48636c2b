package presence

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/home"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/presence/internal/holder"
)

const (
	// attachWithin is how long an edge may be announced later than its stream
	// begins.
	attachWithin = 5 * time.Second
	// maxAnswers bounds the sessions in one answer.
	maxAnswers = 1000
)

// reports is what edges call.
type reports struct {
	edgev1.UnimplementedReportServiceServer
	service *Service
}

// Report implements [edgev1.ReportServiceServer].
func (r *reports) Report(stream grpc.BidiStreamingServer[edgev1.ReportRequest, edgev1.ReportResponse]) error {
	ctx, s := stream.Context(), r.service
	batches, received := rpc.Receive(stream)
	news := make(chan struct{}, 1)
	var feed *holder.Feed
	applied := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case b, ok := <-batches:
			if !ok {
				return received()
			}
			if feed == nil {
				var err error
				if feed, err = s.attach(ctx, b.GetEdge(), news); err != nil {
					return err
				}
				defer s.detach(feed)
			}
			if err := s.apply(feed, b, time.Now()); err != nil {
				return err
			}
			applied++
			if err := stream.Send(&edgev1.ReportResponse{Applied: applied}); err != nil {
				return err
			}
		case <-news:
		}
		answers, err := s.answers(feed, applied)
		for _, a := range answers {
			if err := stream.Send(a); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

func invalid(format string, args ...any) error {
	return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, format, args...)
}

// attach begins an edge's feed, in place of its older one, once the edge is in
// the directory.
func (s *Service) attach(ctx context.Context, member string, news chan<- struct{}) (feed *holder.Feed, err error) {
	if err := checkMember(member); err != nil {
		return nil, invalid("%v", err)
	}
	err = s.wait(ctx, attachWithin, func() (bool, error) {
		feed, err = s.holder.Attach(member, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
		if errors.Is(err, holder.ErrAbsent) {
			return false, notReady("the directory does not list edge %s; try again", member)
		}
		return true, err
	})
	return feed, err
}

// detach ends a feed with its stream.
func (s *Service) detach(f *holder.Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.End()
}

// answers returns what the edge is to be told, and why its feed is over, if it
// is.
func (s *Service) answers(f *holder.Feed, applied uint64) ([]*edgev1.ReportResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !f.Announced():
		return nil, rpc.Error(codes.Aborted, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "the directory does not list this edge any more")
	case !f.Current():
		return nil, rpc.Error(codes.Aborted, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "a newer stream of this edge took over")
	}
	refused, wanted := f.Answers()
	var answers []*edgev1.ReportResponse
	answer := &edgev1.ReportResponse{Applied: applied}
	for _, n := range wanted {
		answer.WantedShards = append(answer.WantedShards, uint32(n))
	}
	for _, x := range refused {
		answer.Superseded = append(answer.Superseded, &edgev1.Superseded{
			Session: x.Session, Generation: encodeGeneration(x.Generation), Home: x.Home,
		})
		if len(answer.GetSuperseded()) == maxAnswers {
			answers, answer = append(answers, answer), &edgev1.ReportResponse{Applied: applied}
		}
	}
	if len(answer.GetSuperseded())+len(answer.GetWantedShards()) > 0 {
		answers = append(answers, answer)
	}
	return answers, nil
}

// apply takes one batch; its changes are seen at once.
func (s *Service) apply(f *holder.Feed, b *edgev1.ReportRequest, now time.Time) error {
	if err := checkBatch(b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range b.GetBegunShards() {
		f.Begin(shard.PresenceShard(n))
	}
	for _, c := range b.GetChanges() {
		if err := s.changeLocked(f, c, now); err != nil {
			return err
		}
	}
	for _, n := range b.GetSyncedShards() {
		f.Sync(shard.PresenceShard(n), now)
	}
	if len(b.GetSyncedShards()) > 0 {
		s.changedLocked()
	}
	for _, sum := range b.GetSums() {
		n := shard.PresenceShard(sum.GetShard())
		if !f.Check(n, shard.Sum{Sessions: sum.GetSessions(), Hash: sum.GetHash()}) {
			s.metrics.mismatches.Inc()
			s.deps.Logger.Warn("an edge has other sessions of a shard than it told of; they are sent again", slog.Int("shard", int(n)))
		}
	}
	if v := b.GetVector(); v != nil {
		f.Vector(v.GetOffsets())
	}
	return nil
}

// checkBatch says what is wrong with the numbers in a batch.
func checkBatch(b *edgev1.ReportRequest) error {
	var summed []uint32
	for _, sum := range b.GetSums() {
		summed = append(summed, sum.GetShard())
	}
	for _, list := range [][]uint32{b.GetBegunShards(), b.GetSyncedShards(), summed} {
		for _, n := range list {
			if n >= shard.PresenceShards {
				return invalid("there is no shard %d; the last one is %d", n, shard.PresenceShards-1)
			}
		}
	}
	if v := b.GetVector(); v != nil && len(v.GetOffsets()) != shard.Slots {
		return invalid("the vector has %d positions, want %d", len(v.GetOffsets()), shard.Slots)
	}
	return nil
}

func (s *Service) changeLocked(f *holder.Feed, c *edgev1.SessionChange, now time.Time) error {
	id := c.GetSession()
	if id == "" {
		return invalid("a change names no session")
	}
	var kind string
	var err error
	switch change := c.GetChange().(type) {
	case *edgev1.SessionChange_Present:
		kind = present
		err = f.Present(id, decodeState(change.Present), now)
	case *edgev1.SessionChange_Resumed:
		kind = resumed
		err = f.Resumed(id, change.Resumed)
	case *edgev1.SessionChange_Subscribed:
		kind = subscribed
		err = f.Subscribed(id, change.Subscribed.GetChannels(), now)
	case *edgev1.SessionChange_Unsubscribed:
		kind = unsubscribed
		f.Unsubscribed(id, change.Unsubscribed.GetChannels(), now)
	case *edgev1.SessionChange_Gone:
		kind = gone
		f.Gone(id, decodeGeneration(change.Gone.GetGeneration()), change.Gone.GetReason(), now)
	default:
		return invalid("the change of session %s says nothing", id)
	}
	if err != nil {
		return tooMuch(err)
	}
	s.metrics.changes.WithLabelValues(kind).Inc()
	return nil
}

func decodeState(st *edgev1.SessionState) holder.State {
	return holder.State{
		User: st.GetUser(), Transport: st.GetTransport(), Since: st.GetSince().AsTime(), Channels: st.GetChannels(),
		Generation: decodeGeneration(st.GetGeneration()), Resume: st.GetResume(),
		Adoptable: time.Duration(st.GetAdoptableMs()) * time.Millisecond,
	}
}

func decodeGeneration(g *edgev1.Generation) home.Generation {
	return home.Generation{Epoch: g.GetEpoch(), Count: g.GetCount()}
}

func encodeGeneration(g home.Generation) *edgev1.Generation {
	return &edgev1.Generation{Epoch: g.Epoch, Count: g.Count}
}
