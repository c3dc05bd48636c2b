package presence

import (
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

// reports is what edges call to report.
type reports struct {
	edgev1.UnimplementedReportServiceServer
	service *Service
}

// Report implements [edgev1.ReportServiceServer].
func (r *reports) Report(stream grpc.BidiStreamingServer[edgev1.ReportRequest, edgev1.ReportResponse]) error {
	batches, received := rpc.Receive(stream)
	ctx := stream.Context()
	news := make(chan struct{}, 1)
	var feed *holder.Feed
	defer func() { r.service.detach(feed) }()
	for applied := uint64(0); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		case b, ok := <-batches:
			if !ok {
				return received()
			}
			if feed == nil {
				var err error
				if feed, err = r.service.attach(b.GetEdge(), news); err != nil {
					return err
				}
			}
			if err := r.service.apply(feed, b, time.Now()); err != nil {
				return err
			}
			applied++
		}
		answer, err := r.service.answer(feed)
		if err != nil {
			return err
		}
		answer.Applied = applied
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func invalid(format string, args ...any) error {
	return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, format, args...)
}

// attach begins an edge's feed, which ends an older one.
func (s *Service) attach(member string, news chan<- struct{}) (feed *holder.Feed, err error) {
	if err := checkMember(member); err != nil {
		return nil, invalid("%v", err)
	}
	s.do(func() {
		feed, err = s.holder.Attach(member, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
	})
	if err != nil {
		return nil, notReady("presence does not see edge %s in the directory; try again", member)
	}
	return feed, nil
}

// detach ends a feed with its stream.
func (s *Service) detach(f *holder.Feed) {
	if f != nil {
		s.do(f.End)
	}
}

// answer returns what an edge is to be told, or why its stream is over.
func (s *Service) answer(f *holder.Feed) (*edgev1.ReportResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !f.Current() {
		return nil, rpc.Error(codes.Aborted, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"a newer stream of this edge took over, or the directory does not list it")
	}
	answer := new(edgev1.ReportResponse)
	refused, wanted := f.Answers()
	for _, r := range refused {
		answer.Superseded = append(answer.Superseded, &edgev1.Superseded{
			Session: r.Session, Generation: encodeGeneration(r.Generation), Home: r.Home,
		})
	}
	for _, p := range wanted {
		answer.WantedShards = append(answer.WantedShards, uint32(p))
	}
	return answer, nil
}

// apply takes one batch; its changes are seen at once.
func (s *Service) apply(f *holder.Feed, b *edgev1.ReportRequest, now time.Time) (err error) {
	s.do(func() {
		for _, p := range b.GetBegunShards() {
			f.Begin(shard.PresenceShard(p))
		}
		for _, c := range b.GetChanges() {
			if err = s.changeLocked(f, c, now); err != nil {
				return
			}
		}
		for _, p := range b.GetSyncedShards() {
			f.Sync(shard.PresenceShard(p), now)
		}
		if v := b.GetVector(); v != nil {
			f.Vector(v.GetOffsets())
		}
		s.whole = s.whole || s.wholeLocked() == nil
	})
	return err
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
	case *edgev1.SessionChange_Subscribed:
		kind = subscribed
		err = f.Subscribed(id, change.Subscribed.GetChannels(), now)
	case *edgev1.SessionChange_Unsubscribed:
		kind = unsubscribed
		f.Unsubscribed(id, change.Unsubscribed.GetChannels())
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
		Generation: decodeGeneration(st.GetGeneration()),
		Adoptable:  time.Duration(st.GetAdoptableMs()) * time.Millisecond,
		Resume:     st.GetResume(),
	}
}

func decodeGeneration(g *edgev1.Generation) home.Generation {
	return home.Generation{Epoch: g.GetEpoch(), Count: g.GetCount()}
}

func encodeGeneration(g home.Generation) *edgev1.Generation {
	return &edgev1.Generation{Epoch: g.Epoch, Count: g.Count}
}

// reasonOf is the label of why a session ended: one of those that there are.
func reasonOf(reason string) string {
	switch reason {
	case "disconnect", "expired", "drained", "evicted", holder.Lost, holder.Vanished:
		return reason
	}
	return "other"
}
