package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/records"
	"github.com/comet-push/comet/internal/rpc"
)

const (
	maxUserBytes    = 256
	maxUserSessions = 10_000 // of a user, in one call
	sessionsAtOnce  = 32     // of a user, that edges are asked about

	movesWithin = time.Second // that a session takes to its next home
)

// Disconnect implements [pubsubv1.PubSubServiceServer].
func (p *pubsub) Disconnect(ctx context.Context, req *pubsubv1.DisconnectRequest) (*pubsubv1.DisconnectResponse, error) {
	n, err := p.each(ctx, req.GetSession(), req.GetUser(), p.disconnect)
	if err != nil {
		return nil, p.metrics.refuse(err)
	}
	return &pubsubv1.DisconnectResponse{Disconnected: n}, nil
}

// SubscribeSession implements [pubsubv1.PubSubServiceServer].
func (p *pubsub) SubscribeSession(
	ctx context.Context, req *pubsubv1.SubscribeSessionRequest,
) (*pubsubv1.SubscribeSessionResponse, error) {
	if err := checkSessionChannels(req.GetChannels(), p.cfg.AnyPattern); err != nil {
		return nil, p.metrics.refuse(err)
	}
	n, err := p.each(ctx, req.GetSession(), req.GetUser(), p.atItsEdge(func(ctx context.Context, session string, edge edgev1.EdgeServiceClient) error {
		_, err := edge.SubscribeSession(ctx, &edgev1.SubscribeSessionRequest{Session: session, Channels: req.GetChannels()})
		return err
	}))
	if err != nil {
		return nil, p.metrics.refuse(err)
	}
	return &pubsubv1.SubscribeSessionResponse{Sessions: n}, nil
}

// UnsubscribeSession implements [pubsubv1.PubSubServiceServer].
func (p *pubsub) UnsubscribeSession(
	ctx context.Context, req *pubsubv1.UnsubscribeSessionRequest,
) (*pubsubv1.UnsubscribeSessionResponse, error) {
	if err := checkSessionChannels(req.GetChannels(), true); err != nil {
		return nil, p.metrics.refuse(err)
	}
	n, err := p.each(ctx, req.GetSession(), req.GetUser(), p.atItsEdge(func(ctx context.Context, session string, edge edgev1.EdgeServiceClient) error {
		_, err := edge.UnsubscribeSession(ctx, &edgev1.UnsubscribeSessionRequest{Session: session, Channels: req.GetChannels()})
		return err
	}))
	if err != nil {
		return nil, p.metrics.refuse(err)
	}
	return &pubsubv1.UnsubscribeSessionResponse{Sessions: n}, nil
}

// each does something to a session, or to each of a user, and returns to how many.
// What it does may be done again.
func (p *pubsub) each(
	ctx context.Context, session, user string, do func(ctx context.Context, session string) error,
) (n uint32, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*p.cfg.Timeout)
	defer cancel()
	switch {
	case (session == "") == (user == ""):
		return 0, invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, "name a session or a user: exactly one of them")
	case session != "":
		if err := checkSession(session); err != nil {
			return 0, err
		}
		return 1, do(ctx, session)
	case len(user) > maxUserBytes:
		return 0, invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
			"user has %d bytes; at most %d are allowed", len(user), maxUserBytes)
	}
	sessions, err := p.sessionsOf(ctx, user)
	if err != nil {
		return 0, err
	}
	return eachOf(ctx, user, sessions, do)
}

// sessionsOf asks presence for all sessions of a user.
func (p *pubsub) sessionsOf(ctx context.Context, user string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	sessions, err := p.records.Sessions(ctx, user, maxUserSessions)
	switch {
	case errors.Is(err, records.ErrTooMany):
		return nil, rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED,
			"user %s has more than %d sessions; nothing was done: name sessions instead", user, maxUserSessions)
	case err != nil:
		return nil, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NOT_READY,
			"presence does not say now which sessions user %s has; try again: %s", user, status.Convert(err).Message())
	}
	return sessions, nil
}

// eachOf does something to all sessions of a user, some at a time. Those that have
// ended meanwhile do not count.
func eachOf(
	ctx context.Context, user string, sessions []string, do func(ctx context.Context, session string) error,
) (n uint32, err error) {
	var mu sync.Mutex
	var failed []error
	var group errgroup.Group
	group.SetLimit(sessionsAtOnce)
	for _, session := range sessions {
		group.Go(func() error {
			err := do(ctx, session)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				n++
			case rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN:
				failed = append(failed, err)
			}
			return nil
		})
	}
	_ = group.Wait() // no fn fails
	if len(failed) == 0 {
		return n, nil
	}
	reason := rpc.Reason(failed[0])
	if reason == channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		reason = channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE
	}
	return 0, rpc.Error(status.Code(failed[0]), reason, "done for %d sessions of user %s, and not for %d; call again. The first: %s",
		n, user, len(failed), status.Convert(failed[0]).Message())
}

// atItsEdge is a call of a session's home that may be repeated: also while that
// does not answer.
func (p *pubsub) atItsEdge(
	call func(ctx context.Context, session string, edge edgev1.EdgeServiceClient) error,
) func(ctx context.Context, session string) error {
	return func(ctx context.Context, session string) error {
		at := func(ctx context.Context, edge edgev1.EdgeServiceClient) error { return call(ctx, session, edge) }
		return p.persist(ctx, session, func() error {
			if err := p.atHint(ctx, session, at); status.Code(err) != codes.NotFound && !isSilent(err) {
				return concluded(session, err)
			}
			return p.atHome(ctx, session, at)
		})
	}
}

// disconnect ends a session, wherever it is: also one that no edge has because
// its home was lost or drains.
func (p *pubsub) disconnect(ctx context.Context, session string) error {
	at := func(ctx context.Context, edge edgev1.EdgeServiceClient) error {
		_, err := edge.Disconnect(ctx, &edgev1.DisconnectRequest{Session: session})
		return err
	}
	began := time.Now()
	return p.persist(ctx, session, func() error {
		if err := p.atHint(ctx, session, at); status.Code(err) != codes.NotFound && !isSilent(err) {
			return concluded(session, err)
		}
		err := p.atHome(ctx, session, at)
		if errors.Is(err, errBetween) {
			err = p.disconnectHomeless(ctx, session, time.Since(began) < movesWithin)
		}
		return err
	})
}

// disconnectHomeless has some edge claim and end a session that its home does not
// have any more, or not yet; early: then that may still come.
func (p *pubsub) disconnectHomeless(ctx context.Context, session string, early bool) error {
	found, err := p.locate(ctx, session)
	if err != nil {
		return err
	}
	if home, announced := p.view().Node(found.GetHome()); early && announced && !found.GetLost() && !home.EdgeLeaves() {
		return errBetween
	}
	edges := p.view().With(membership.Edge)
	rand.Shuffle(len(edges), func(i, j int) { edges[i], edges[j] = edges[j], edges[i] })
	for _, edge := range edges {
		if edge.Draining {
			continue
		}
		err := p.callEdge(ctx, edge, func(ctx context.Context, edge edgev1.EdgeServiceClient) error {
			_, err := edge.Disconnect(ctx, &edgev1.DisconnectRequest{Session: session, Homeless: found.GetGeneration()})
			return err
		})
		switch {
		case isSilent(err):
			continue
		case status.Code(err) == codes.Aborted: // it has a home again
			return errBetween
		}
		return concluded(session, err)
	}
	return errBetween // in vain, for now
}

// persist tries until a session is found and its home answers, or the time is up.
func (p *pubsub) persist(ctx context.Context, session string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*p.cfg.Timeout)
	defer cancel()
	var last error
	err := p.untilFound(ctx, session, func() error {
		err := try()
		if isSilent(err) && ctx.Err() == nil {
			last = err
			return errBetween
		}
		return err
	})
	if ctx.Err() != nil && last != nil && isSilent(err) {
		return last
	}
	return err
}

// isSilent reports whether somebody could not be asked, or has no time now.
func isSilent(err error) bool { return status.Code(err) == codes.Unavailable }

// checkSessionChannels says what is wrong with the channels of a session that are to be
// subscribed to, or no more.
func checkSessionChannels(channels []string, anyPattern bool) error {
	switch n := len(channels); {
	case n == 0:
		return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, "name at least one channel")
	case n > maxSubscriptions:
		return invalid(channelv1.ErrorReason_ERROR_REASON_TOO_MANY_CHANNELS,
			"%d channels; one call takes at most %d", n, maxSubscriptions)
	}
	for _, channel := range channels {
		if err := checkInterest(channel, anyPattern); err != nil {
			return err
		}
		if bayeux.IsService(channel) {
			return invalid(channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID,
				"%s carries messages from browsers to backends; use Deliver to send one the other way", channel)
		}
	}
	return nil
}
