package edge

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
)

const (
	// drainShown is how often an operator sees how far a drain is, and drainLogged
	// how often the log does.
	drainShown  = 500 * time.Millisecond
	drainLogged = time.Second
	// drainSwept is how often an edge that is drained looks for what has come.
	drainSwept = 250 * time.Millisecond
)

// draining is the drain of an edge: there is one, which an operator orders, or
// SIGTERM, or one after the other.
type draining struct {
	once  sync.Once     // closes asked
	asked chan struct{} // closed when it is to begin
	done  chan struct{} // closed when it has ended

	clients atomic.Int64 // that were there when it began
	told    atomic.Int64 // of them
	handed  atomic.Int64 // sessions that were left to other edges
}

func newDraining() draining {
	return draining{asked: make(chan struct{}), done: make(chan struct{})}
}

// over reports whether the drain has ended.
func (d *draining) over() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// beginDrain has the edge drain, if it does not.
func (s *Service) beginDrain() {
	s.drain.once.Do(func() {
		s.draining.Store(true)
		close(s.drain.asked)
	})
}

// drains waits until the edge is to drain, does so, and keeps it empty until ctx
// ends.
func (s *Service) drains(ctx context.Context) error {
	select {
	case <-s.drain.asked:
	case <-ctx.Done():
		return nil
	}
	begun := time.Now()
	s.logger.Info("drains", s.standing())
	s.drainAll(ctx)
	if ctx.Err() != nil {
		return nil
	}
	s.logger.Info("is drained", slog.Duration("took", time.Since(begun)), slog.Int64("handed_over", s.drain.handed.Load()))
	close(s.drain.done)
	tick := time.NewTicker(drainSwept)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.sweep(true, true)
		}
	}
}

// standing is how far the drain is, for the log.
func (s *Service) standing() slog.Attr {
	p := s.progress()
	return slog.Group("left", slog.Any("sessions", p.GetSessions()), slog.Any("sockets", p.GetSockets()),
		slog.Any("readers", p.GetReaders()), slog.Any("to_be_told", p.GetWaiting()))
}

// progress is how far the drain is, or would be.
func (s *Service) progress() *edgev1.DrainResponse {
	p := &edgev1.DrainResponse{
		Sessions: uint32(s.registry.len()), Sockets: uint32(s.sockets.len()), Readers: uint32(s.registry.readers.Load()),
		HandedOver: uint32(s.drain.handed.Load()), Done: s.drain.over(),
	}
	switch all, told := s.drain.clients.Load(), s.drain.told.Load(); {
	case all > 0:
		p.SentAway, p.Waiting = uint32(told), uint32(max(all-told, 0))
	case s.draining.Load() && !p.GetDone(): // it is just beginning
		p.Waiting = p.GetSessions() + p.GetReaders()
	}
	return p
}

// drainState is what the metric shows: 0 it serves, 1 it drains, 2 it is drained.
func (s *Service) drainState() int {
	switch {
	case s.drain.over():
		return 2
	case s.draining.Load():
		return 1
	}
	return 0
}

// orderDrain has the edge drain because an operator wants it, unless it does.
func (s *Service) orderDrain(force bool) error {
	if s.draining.Load() {
		return nil
	}
	if !force && !s.edges.others() {
		return rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED,
			"drain %s: there is no other edge that its clients could go to; start one, or force it", s.node.Name)
	}
	s.logger.Info("an operator orders a drain")
	if s.announcement != nil {
		s.announcement.Change(func(n *membership.Node) { n.EdgeDraining = true })
	}
	s.beginDrain()
	return nil
}

// Drain implements [edgev1.EdgeServiceServer].
func (d *deliverServer) Drain(req *edgev1.DrainRequest, stream grpc.ServerStreamingServer[edgev1.DrainResponse]) error {
	if err := d.s.orderDrain(req.GetForce()); err != nil {
		return err
	}
	ctx := stream.Context()
	tick := time.NewTicker(drainShown)
	defer tick.Stop()
	done := d.s.drain.done
	for {
		p := d.s.progress()
		if err := stream.Send(p); err != nil || p.GetDone() {
			return err
		}
		select {
		case <-done:
			done = nil // the next one says so
		case <-tick.C:
		case <-ctx.Done():
			if d.s.drain.over() {
				return stream.Send(d.s.progress())
			}
			return context.Cause(ctx)
		}
	}
}

// Inspect implements [edgev1.EdgeServiceServer].
func (d *deliverServer) Inspect(context.Context, *edgev1.InspectRequest) (*edgev1.InspectResponse, error) {
	return &edgev1.InspectResponse{State: d.s.progress()}, nil
}
