package broker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/controller"
)

// orderTimeout is how long an order may take. Who passes one on waits longer.
const orderTimeout = 20 * time.Second

// admin is what brokers ask each other for operators: each answers for itself
// alone. Requests were checked by operators, which is the public side.
type admin struct {
	adminv1.UnimplementedAdminServiceServer

	deps       Deps
	places     *places
	controller *controller.Controller
	leaving    func() bool
}

// ListSlots implements [adminv1.AdminServiceServer]: the slots that this broker
// leads, and, if it is the controller, those that wait for a primary.
func (a *admin) ListSlots(context.Context, *adminv1.ListSlotsRequest) (*adminv1.ListSlotsResponse, error) {
	resp := &adminv1.ListSlotsResponse{Slots: a.places.led()}
	waiting, leads := a.controller.Waiting()
	if !leads {
		return resp, nil
	}
	resp.Controller = a.deps.Node.Member()
	table := a.places.known().Table
	for n, what := range waiting {
		info := slotInfo(n, table.Row(n))
		info.WaitsFor, info.Hint = string(what), controller.Hint(what)
		resp.Slots = append(resp.Slots, info)
	}
	return resp, nil
}

// MoveSlot implements [adminv1.AdminServiceServer]; only the controller does.
func (a *admin) MoveSlot(ctx context.Context, req *adminv1.MoveSlotRequest) (*adminv1.MoveSlotResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	n := shard.Slot(req.GetSlot())
	if err := a.controller.Move(ctx, n, req.GetBroker()); err != nil {
		return nil, orderError(err)
	}
	info, err := a.handedOver(ctx, n, req.GetBroker())
	if err != nil {
		return nil, err
	}
	return &adminv1.MoveSlotResponse{Slot: info}, nil
}

// handedOver waits until a slot that was ordered to a broker is led by it.
func (a *admin) handedOver(ctx context.Context, n shard.Slot, broker string) (*adminv1.SlotInfo, error) {
	for view := range a.deps.Directory.Watch(ctx) {
		row := view.Table.Row(n)
		_, led := view.Node(row.Primary)
		switch {
		case led && nameOf(row.Primary) == broker:
			info := slotInfo(n, row)
			judge(info, view)
			return info, nil
		case len(row.Replicas) == 0 || nameOf(row.Replicas[0]) != broker:
			return nil, rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED,
				"move slot %d to %s: given up, something else happened to the broker or the slot; look at both and order it again", n, broker)
		}
	}
	return nil, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
		"move slot %d to %s: not yet done, the broker does not have all of it; the order stands and will be carried out then", n, broker)
}

// RecoverSlot implements [adminv1.AdminServiceServer]; only the controller does.
func (a *admin) RecoverSlot(ctx context.Context, req *adminv1.RecoverSlotRequest) (*adminv1.RecoverSlotResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	n := shard.Slot(req.GetSlot())
	if err := a.controller.Recover(ctx, n); err != nil {
		return nil, orderError(err)
	}
	view := a.places.known()
	row, err := a.deps.Directory.Row(ctx, n)
	if err != nil { // it is recovered all the same
		row = view.Table.Row(n)
	}
	info := slotInfo(n, row)
	judge(info, view)
	return &adminv1.RecoverSlotResponse{Slot: info}, nil
}

// DrainBroker implements [adminv1.AdminServiceServer]: it drains this one.
func (a *admin) DrainBroker(ctx context.Context, _ *adminv1.DrainBrokerRequest) (*adminv1.DrainBrokerResponse, error) {
	if !a.others() {
		return nil, rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED,
			"drain %s: no other broker could take its slots; start one, or undrain one", a.deps.Node.Name)
	}
	info, err := a.cordon(ctx, true)
	return &adminv1.DrainBrokerResponse{Broker: info}, err
}

// UndrainBroker implements [adminv1.AdminServiceServer]: it undrains this one.
func (a *admin) UndrainBroker(ctx context.Context, _ *adminv1.UndrainBrokerRequest) (*adminv1.UndrainBrokerResponse, error) {
	info, err := a.cordon(ctx, false)
	return &adminv1.UndrainBrokerResponse{Broker: info}, err
}

// others reports whether another broker takes slots.
func (a *admin) others() bool {
	for _, b := range a.places.known().With(membership.Broker) {
		if !b.Draining && !b.Cordoned && b.Member() != a.deps.Node.Member() {
			return true
		}
	}
	return false
}

// cordon announces whether this broker is cordoned, and returns once that can
// be seen.
func (a *admin) cordon(ctx context.Context, on bool) (*adminv1.BrokerInfo, error) {
	self := a.deps.Node
	if a.leaving() {
		return nil, rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED,
			"%s is about to end, and gives its slots away already", self.Name)
	}
	a.deps.Logger.Info("an operator orders", slog.Bool("drain", on))
	a.deps.Announcement.Change(func(n *membership.Node) { n.Cordoned = on })
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	for view := range a.deps.Directory.Watch(ctx) {
		if n, ok := view.Node(self.Member()); !ok || n.Cordoned != on {
			continue
		}
		for _, b := range brokerInfos(view) {
			if b.GetLogId() == self.ID {
				return b, nil
			}
		}
	}
	return nil, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
		"%s has the order and will announce it once it reaches the directory", self.Name)
}

// orderError is why the controller did not carry out an order.
func orderError(err error) error {
	var refused *controller.RefusedError
	switch {
	case errors.Is(err, membership.ErrNotLeader):
		return errNoController
	case errors.As(err, &refused):
		return rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_ORDER_REFUSED, "%v", refused)
	case errors.Is(err, controller.ErrBusy):
		return rpc.Error(codes.ResourceExhausted, channelv1.ErrorReason_ERROR_REASON_BUSY, "%v; try again in a moment", err)
	case errors.Is(err, controller.ErrStore):
		return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"%v; slots stay where they are until it is back", err)
	case errors.Is(err, context.DeadlineExceeded):
		return rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"the order was not carried out in %v; look at the slot before you try again", orderTimeout)
	}
	return status.FromContextError(err).Err()
}
