package presence

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	presencev1 "github.com/comet-push/comet/gen/comet/presence/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/presence/internal/outbox"
)

// earliest is where a watch begins that wants all that is retained.
const earliest = "earliest"

// watchCount counts watches.
type watchCount struct{ atomic.Int64 }

// WatchEvents implements [presencev1.PresenceServiceServer]. Each channel of
// events is read by itself: one that cannot be read holds up no other.
func (q *queries) WatchEvents(req *presencev1.WatchEventsRequest, stream grpc.ServerStreamingServer[presencev1.WatchEventsResponse]) error {
	e := q.service.events
	if e == nil {
		return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"this process has --presence.events=false; ask another, or start it with true")
	}
	at, err := parseAfter(req.GetAfter())
	if err != nil {
		return err
	}
	if most := int64(q.service.cfg.MaxWatches); e.watches.Add(1) > most {
		e.watches.Add(-1)
		return rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"this process serves %d watches of events and takes no more; ask another", most)
	}
	defer e.watches.Add(-1)
	if err := e.begin(stream.Context(), &at, req.GetAfter() == ""); err != nil {
		return err
	}
	w := eventWatch{log: e.log, stream: stream, at: at, pages: make(chan eventPages)}
	return w.serve(stream.Context())
}

func parseAfter(text string) (at outbox.Position, err error) {
	if text == "" || text == earliest {
		return at, nil
	}
	if at, err = outbox.ParsePosition(text); err != nil {
		return at, rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CURSOR_INVALID,
			"after: %v; use one that it gave, or %s, or leave it out", err, earliest)
	}
	return at, nil
}

// begin finds where a watch from now on begins, or sees whether one can go on.
func (e *events) begin(ctx context.Context, at *outbox.Position, latest bool) error {
	group, ctx := errgroup.WithContext(ctx)
	for c := range outbox.Channel(outbox.Channels) {
		group.Go(func() (err error) {
			if latest {
				at[c], err = e.log.end(ctx, c)
			} else if at[c] != 0 {
				_, err = e.log.read(ctx, c, at[c], 1)
			}
			return err
		})
	}
	return group.Wait()
}

// eventWatch is the loop that owns the stream of one WatchEvents call.
type eventWatch struct {
	log    *eventLog
	stream grpc.ServerStreamingServer[presencev1.WatchEventsResponse]
	at     outbox.Position // as sent
	sent   time.Time
	pages  chan eventPages
}

// eventPages is what was read of one channel, or why it cannot be.
type eventPages struct {
	channel outbox.Channel
	page    *brokerv1.ReadResponse
	err     error
}

func (w *eventWatch) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	if err := w.send(nil); err != nil {
		return err
	}
	for c, after := range w.at {
		readers.Go(func() { w.read(ctx, outbox.Channel(c), after) })
	}
	idle := time.NewTicker(eventIdle)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case p := <-w.pages:
			if p.err != nil {
				return p.err
			}
			if err := w.hand(p); err != nil {
				return err
			}
		case now := <-idle.C:
			if now.Sub(w.sent) < eventIdle {
				continue
			}
			if err := w.send(nil); err != nil {
				return err
			}
		}
	}
}

// read reads a channel until ctx ends or its history is lost.
func (w *eventWatch) read(ctx context.Context, c outbox.Channel, after uint64) {
	for failures := 0; ctx.Err() == nil; {
		page, err := w.log.read(ctx, c, after, eventPage)
		if err != nil && rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST {
			failures++
			backoff.Pause(ctx, backoff.Policy{Base: againAfter, Max: eventPause}.Delay(failures))
			continue
		}
		select {
		case w.pages <- eventPages{c, page, err}:
		case <-ctx.Done():
		}
		if err != nil {
			return
		}
		failures, after = 0, page.GetThrough()
		w.log.wait(ctx, c, after, eventIdle, nil)
	}
}

// hand sends the events of a page.
func (w *eventWatch) hand(p eventPages) error {
	for _, entry := range p.page.GetEntries() {
		w.at[p.channel] = entry.GetOffset()
		if x := w.log.parse(entry); x != nil {
			if err := w.send(encodeWatched(x)); err != nil {
				return err
			}
		}
	}
	w.at[p.channel] = max(w.at[p.channel], p.page.GetThrough())
	return nil
}

func (w *eventWatch) send(x *presencev1.Event) error {
	w.sent = time.Now()
	return w.stream.Send(&presencev1.WatchEventsResponse{Event: x, Position: w.at.String()})
}

func encodeWatched(x *outbox.Event) *presencev1.Event {
	e := &presencev1.Event{
		Id: x.ID, Session: x.Session, User: x.User, Edge: x.Edge, Generation: x.Generation, Time: timestamppb.New(x.Time),
	}
	if x.Left != nil {
		e.Kind = &presencev1.Event_Left{Left: &presencev1.LeftChannel{Channel: x.Left.Channel, Reason: x.Left.Reason}}
	} else {
		e.Kind = &presencev1.Event_Disconnected{Disconnected: &presencev1.Disconnected{
			Reason: x.Ended.Reason, Channels: x.Ended.Channels, ChannelsTruncated: x.Ended.Truncated,
		}}
	}
	return e
}
