package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/run"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/internal/upstream"
)

// gatherLosses is how long a resync waits for others: when slots move many are
// lost at once, and a subscriber is to load its snapshot once.
const gatherLosses = 50 * time.Millisecond

// errSlow is the cause of a subscription that ends because its subscriber does
// not take what comes.
var errSlow = errors.New("the subscriber takes too little")

// Subscribe implements [pubsubv1.PubSubServiceServer]. Each call follows the
// slots of its channels by itself.
func (p *pubsub) Subscribe(req *pubsubv1.SubscribeRequest, stream grpc.ServerStreamingServer[pubsubv1.SubscribeResponse]) error {
	channels := slices.Compact(slices.Sorted(slices.Values(req.GetChannels())))
	if err := checkSubscribe(p.deps.Namespaces, channels, p.cfg.AnyPattern); err != nil {
		return p.metrics.refuse(err)
	}
	since, err := shard.ParseSince(channels, req.GetSince())
	if err != nil {
		return p.metrics.refuse(cursorInvalid(err))
	}
	if p.subscriptions.Add(1) > int64(p.cfg.MaxSubscriptions) {
		p.subscriptions.Add(-1)
		return p.metrics.refuse(rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"this process serves %d subscriptions and takes no more; try another", p.cfg.MaxSubscriptions))
	}
	defer p.subscriptions.Add(-1)

	ctx, cancel := context.WithCancelCause(stream.Context())
	inbox := newInbox(channels, since, p.cfg.SubscribeBuffer, p.cfg.SlowTimeout, ctx.Done(), func() { cancel(errSlow) })
	follower := upstream.NewFollower(upstream.FollowerConfig{
		Node: p.deps.Node.Member(), Directory: p.deps.Directory, Conns: p.deps.Conns, Heartbeat: p.cfg.Heartbeat,
		Slots: shard.SlotsOf(channels), Since: since.At, Earliest: since.Earliest,
		Registerer: p.deps.Registerer, Logger: p.deps.Logger,
	}, inbox)
	for _, c := range channels {
		follower.Join(c)
	}
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		cancel(follower.Run(ctx))
	}()
	defer func() { cancel(nil); <-followed }()

	s := &subscription{stream: stream, inbox: inbox, channels: channels, since: req.GetSince(), cfg: p.cfg, drained: p.drained}
	return s.serve(ctx)
}

// subscription is the loop that owns the stream of one Subscribe call.
type subscription struct {
	stream   grpc.ServerStreamingServer[pubsubv1.SubscribeResponse]
	inbox    *inbox
	channels []string
	since    string // as it was asked for
	cfg      Config
	drained  <-chan struct{}

	at     map[shard.Slot]uint64 // complete up to here, as sent; nil before open
	cursor time.Time             // when a cursor was last sent
	idle   *time.Timer           // runs since the last event
}

func (s *subscription) serve(ctx context.Context) error {
	s.idle = time.NewTimer(s.cfg.IdleCursor)
	defer s.idle.Stop()
	var gathered <-chan time.Time // while a loss waits for more of its kind
	for {
		select {
		case <-ctx.Done():
			return s.end(context.Cause(ctx))
		case <-s.drained:
			return s.end(run.ErrDraining)
		case <-s.inbox.news:
			if s.inbox.lossy() && gathered == nil {
				gathered = time.After(gatherLosses)
			}
			if gathered != nil {
				continue
			}
			if err := s.flush(); err != nil {
				return err
			}
		case <-gathered:
			gathered = nil
			if err := s.flush(); err != nil {
				return err
			}
		case now := <-s.idle.C:
			if err := errors.Join(s.flush(), s.sendCursor(now)); err != nil {
				return err
			}
		}
	}
}

// flush sends what the inbox holds.
func (s *subscription) flush() error {
	news, ready := s.inbox.take()
	if !ready {
		return nil
	}
	now := time.Now()
	if s.at == nil {
		s.at, s.cursor = news.start, now
		if err := s.send(&pubsubv1.SubscribeResponse{Event: &pubsubv1.SubscribeResponse_Open{
			Open: &pubsubv1.SubscriptionOpen{Cursor: s.place()},
		}}); err != nil {
			return err
		}
	}
	for _, e := range news.events {
		if err := s.sendEvent(e); err != nil {
			return err
		}
	}
	for slot, offset := range news.through {
		s.at[slot] = max(s.at[slot], offset)
	}
	// The position of a message is a cursor of one channel, but not of several.
	if len(news.events) > 0 && s.several() && now.Sub(s.cursor) >= s.cfg.CursorEvery {
		return s.sendCursor(now)
	}
	return nil
}

func (s *subscription) several() bool { return len(s.channels) > 1 || bayeux.IsPattern(s.channels[0]) }

func (s *subscription) sendEvent(e event) error {
	if e.entry != nil {
		s.at[e.slot] = max(s.at[e.slot], e.entry.GetOffset())
		return s.send(&pubsubv1.SubscribeResponse{Event: &pubsubv1.SubscribeResponse_Message{Message: message(e.entry)}})
	}
	maps.Copy(s.at, e.loss.at)
	return s.send(&pubsubv1.SubscribeResponse{Event: &pubsubv1.SubscribeResponse_Resync{
		Resync: &pubsubv1.SubscriptionResync{Channels: slices.Sorted(maps.Keys(e.loss.channels)), Cursor: s.place()},
	}})
}

func (s *subscription) sendCursor(now time.Time) error {
	if s.at == nil {
		return nil // not open yet
	}
	s.cursor = now
	return s.send(&pubsubv1.SubscribeResponse{Event: &pubsubv1.SubscribeResponse_Cursor{
		Cursor: &pubsubv1.SubscriptionCursor{Cursor: s.place()},
	}})
}

// end says why the server ends the stream, if it is the server who does.
func (s *subscription) end(cause error) error {
	reason := "error"
	switch {
	case errors.Is(cause, run.ErrDraining):
		reason = "draining"
	case errors.Is(cause, errSlow):
		reason = "slow"
	case errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded):
		return cause
	}
	return s.send(&pubsubv1.SubscribeResponse{Event: &pubsubv1.SubscribeResponse_End{
		End: &pubsubv1.SubscriptionEnd{Reason: reason, Cursor: s.place()},
	}})
}

func (s *subscription) send(r *pubsubv1.SubscribeResponse) error {
	s.idle.Reset(s.cfg.IdleCursor)
	return s.stream.Send(r)
}

// place is where the stream stands; before open, where it was to begin.
func (s *subscription) place() string {
	if s.at == nil {
		return s.since
	}
	return shard.FormatCursor(s.channels, s.at)
}
