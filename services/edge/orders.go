package edge

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comet-push/comet/bayeux"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	edgev1 "github.com/comet-push/comet/gen/comet/edge/v1"
	"github.com/comet-push/comet/internal/records"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/services/edge/internal/session"
)

// The ends of an order that a session did not carry out itself.
var (
	errElsewhere = errors.New("the session has left")
	errOver      = errors.New("the session has ended")
	errOrders    = errors.New("the session has as many orders under way as it may")
	errUnjoined  = errors.New("no broker has answered in time")
	errTooMany   = errors.New("the session has as many subscriptions as it may")
)

// backendOrders are what backends want sessions to be subscribed to and that is not
// done yet.
type backendOrders struct {
	most int

	mu   sync.Mutex // leaf
	last session.Order
	by   map[*client]map[session.Order]chan<- error
}

// add makes an order; done is told how it went, once.
func (o *backendOrders) add(c *client, done chan<- error) (session.Order, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.by[c]) >= o.most {
		return 0, errOrders
	}
	if o.by == nil {
		o.by = map[*client]map[session.Order]chan<- error{}
	}
	if o.by[c] == nil {
		o.by[c] = map[session.Order]chan<- error{}
	}
	o.last++
	o.by[c][o.last] = done
	return o.last, nil
}

// carried ends an order.
func (o *backendOrders) carried(c *client, what session.Carried) {
	o.mu.Lock()
	defer o.mu.Unlock()
	done := o.by[c][what.Order]
	if done == nil {
		return
	}
	delete(o.by[c], what.Order)
	if len(o.by[c]) == 0 {
		delete(o.by, c)
	}
	done <- failureOf(what.Err) // it has room
}

// over ends the orders of a session that has ended.
func (o *backendOrders) over(c *client, why session.Reason) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, done := range o.by[c] {
		done <- endOf(why)
	}
	delete(o.by, c)
}

func failureOf(err *bayeux.Error) error {
	switch {
	case err == nil:
		return nil
	case err.Code == bayeux.LimitExceeded("").Code:
		return errTooMany
	}
	return errUnjoined
}

// endOf is how an order ends for a session that has.
func endOf(why session.Reason) error {
	if why == session.Moved {
		return errElsewhere
	}
	return errOver
}

// enlist subscribes the session for a backend; done, which has room, is told
// when that stands or has failed.
func (c *client) enlist(channels []string, done chan<- error) {
	var out session.Effects
	c.mu.Lock()
	if err := c.unable(); err != nil {
		c.mu.Unlock()
		done <- err
		return
	}
	order, err := c.service.orders.add(c, done)
	if err != nil {
		c.mu.Unlock()
		done <- err
		return
	}
	now := time.Now()
	c.session.Enlist(now, order, channels, &out)
	c.settle(now, &out)
}

// withdraw unsubscribes the session for a backend.
func (c *client) withdraw(channels []string) error {
	var out session.Effects
	c.mu.Lock()
	if err := c.unable(); err != nil {
		c.mu.Unlock()
		return err
	}
	now := time.Now()
	c.session.Withdraw(now, channels, &out)
	c.settle(now, &out)
	return nil
}

// evict ends the session for a backend.
func (c *client) evict() error {
	var out session.Effects
	c.mu.Lock()
	if why := c.session.Ended(); why != "" {
		c.mu.Unlock()
		return endOf(why)
	}
	now := time.Now()
	c.session.End(now, session.Evicted, &out)
	c.settle(now, &out)
	return nil
}

// unable says why nothing more can be ordered of the session; nil: it can.
func (c *client) unable() error {
	switch why := c.session.Ended(); {
	case why != "":
		return endOf(why)
	case c.leaving:
		return errElsewhere
	}
	return nil
}

// SubscribeSession implements [edgev1.EdgeServiceServer].
func (d *deliverServer) SubscribeSession(
	ctx context.Context, req *edgev1.SubscribeSessionRequest,
) (*edgev1.SubscribeSessionResponse, error) {
	c, err := d.target(req.GetSession(), req.GetChannels())
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	c.enlist(req.GetChannels(), done)
	select {
	case err = <-done:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if err != nil {
		return nil, orderError(req.GetSession(), err)
	}
	d.s.recordNow(ctx, req.GetSession())
	return &edgev1.SubscribeSessionResponse{}, nil
}

// UnsubscribeSession implements [edgev1.EdgeServiceServer].
func (d *deliverServer) UnsubscribeSession(
	ctx context.Context, req *edgev1.UnsubscribeSessionRequest,
) (*edgev1.UnsubscribeSessionResponse, error) {
	c, err := d.target(req.GetSession(), req.GetChannels())
	if err != nil {
		return nil, err
	}
	if err := c.withdraw(req.GetChannels()); err != nil {
		return nil, orderError(req.GetSession(), err)
	}
	d.s.recordNow(ctx, req.GetSession())
	return &edgev1.UnsubscribeSessionResponse{}, nil
}

// recordNow waits until presence has the record of a session as it is, but not for
// long: what was ordered is done.
func (s *Service) recordNow(ctx context.Context, id string) {
	s.reports.Changed(id)
	told := make(chan struct{})
	if !s.reports.Confirm(id, func(bool) { close(told) }) {
		return // there is nobody to tell
	}
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// Disconnect implements [edgev1.EdgeServiceServer].
func (d *deliverServer) Disconnect(ctx context.Context, req *edgev1.DisconnectRequest) (*edgev1.DisconnectResponse, error) {
	err := errElsewhere
	if c := d.s.registry.findPublic(req.GetSession()); c != nil {
		err = c.evict()
	} else if d.s.endings.has(req.GetSession()) {
		err = errOver
	}
	if errors.Is(err, errElsewhere) && req.GetHomeless() != nil {
		return &edgev1.DisconnectResponse{}, d.s.evictHomeless(ctx, req)
	}
	return &edgev1.DisconnectResponse{}, orderError(req.GetSession(), err)
}

// evictHomeless ends a session that no edge has: whoever claims it is its home,
// and may say that it is over.
func (s *Service) evictHomeless(ctx context.Context, req *edgev1.DisconnectRequest) error {
	id := req.GetSession()
	claimed, err := s.arrivals.records.Claim(ctx, id, s.node.Member(), req.GetHomeless())
	switch {
	case errors.Is(err, records.ErrUnknown):
		return orderError(id, errOver)
	case errors.Is(err, records.ErrMoved):
		return rpc.Error(codes.Aborted, channelv1.ErrorReason_ERROR_REASON_MOVED, "session %s has another home", id)
	case err != nil:
		return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"session %s cannot be claimed now: %v", id, err)
	}
	s.endings.add(id, time.Now()) // before presence hears of it nobody is to bring it back
	s.reports.Gone(id, &edgev1.SessionGone{Reason: string(session.Evicted), Generation: claimed.GetGeneration()})
	return nil
}

// target is the client of an order, once that is checked.
func (d *deliverServer) target(id string, channels []string) (*client, error) {
	for _, channel := range channels {
		if bayeux.ParseChannel(channel) != nil || bayeux.IsMeta(channel) || bayeux.IsService(channel) {
			return nil, rpc.Error(codes.InvalidArgument, channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID,
				"%.300q is no channel or pattern that can be subscribed to", channel)
		}
	}
	c := d.s.registry.findPublic(id)
	switch {
	case c != nil:
		return c, nil
	case d.s.endings.has(id):
		return nil, orderError(id, errOver)
	}
	return nil, orderError(id, errElsewhere)
}

// orderError says to a broker why an order was not carried out.
func orderError(id string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errElsewhere):
		return unknownHere(id)
	case errors.Is(err, errOver):
		return rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_SESSION_UNKNOWN, "session %s has ended", id)
	case errors.Is(err, errTooMany), errors.Is(err, errOrders):
		return rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "session %s: %v", id, err)
	}
	return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "session %s: %v; try again", id, err)
}
