package presence

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/presence/internal/roster"
)

// reports is what edges call.
type reports struct {
	edgev1.UnimplementedReportServiceServer
	service *Service
}

// Report implements [edgev1.ReportServiceServer].
func (r *reports) Report(stream grpc.BidiStreamingServer[edgev1.ReportRequest, edgev1.ReportResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	batches, received := rpc.Receive(stream)
	var feed *roster.Feed
	for applied := uint64(1); ; applied++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case b, ok := <-batches:
			if !ok {
				return received()
			}
			if feed == nil {
				if err := checkMember(b.GetEdge()); err != nil {
					return invalid("%v", err)
				}
				feed = r.service.attach(b.GetEdge(), cancel)
				defer r.service.detach(feed)
			}
			if err := r.service.apply(feed, b, time.Now()); err != nil {
				return err
			}
			if err := stream.Send(&edgev1.ReportResponse{Applied: applied}); err != nil {
				return err
			}
		}
	}
}

func invalid(format string, args ...any) error {
	return rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, format, args...)
}

// attach begins an edge's feed and ends its older stream.
func (s *Service) attach(member string, end context.CancelCauseFunc) *roster.Feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if older := s.reports[member]; older != nil {
		older(rpc.Error(codes.Aborted, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "a newer stream of this edge took over"))
	}
	s.reports[member] = end
	return s.roster.Attach(member)
}

// detach ends a feed with its stream.
func (s *Service) detach(f *roster.Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !f.Current() {
		return
	}
	delete(s.reports, f.Member())
	now := time.Now()
	f.End(now)
	s.sweepLocked(now)
}

// apply takes one batch; its changes are seen at once.
func (s *Service) apply(f *roster.Feed, b *edgev1.ReportRequest, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range b.GetChanges() {
		if err := s.changeLocked(f, c, now); err != nil {
			return err
		}
	}
	if b.GetSynced() {
		f.Synced()
		s.whole = s.whole || s.wholeLocked() == nil
	}
	return nil
}

func (s *Service) changeLocked(f *roster.Feed, c *edgev1.SessionChange, now time.Time) error {
	id := c.GetSession()
	if id == "" {
		return invalid("a change names no session")
	}
	var kind string
	var err error
	switch change := c.GetChange().(type) {
	case *edgev1.SessionChange_Present:
		kind = present
		st := change.Present
		err = f.Present(id, roster.State{
			User: st.GetUser(), Transport: st.GetTransport(), Since: st.GetSince().AsTime(), Channels: st.GetChannels(),
		}, now)
	case *edgev1.SessionChange_Subscribed:
		kind = subscribed
		err = f.Subscribed(id, change.Subscribed.GetChannels(), now)
	case *edgev1.SessionChange_Unsubscribed:
		kind = unsubscribed
		f.Unsubscribed(id, change.Unsubscribed.GetChannels())
	case *edgev1.SessionChange_Gone:
		kind = gone
		f.Gone(id)
	default:
		return invalid("the change of session %s says nothing", id)
	}
	if err != nil {
		return tooMuch(err)
	}
	s.metrics.changes.WithLabelValues(kind).Inc()
	return nil
}
