package broker

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/comet-push/comet/gen/comet/admin/v1"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/backoff"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

const (
	maxNameBytes = 253 // of a broker: as a host's
	maxNamed     = 16  // brokers in a message

	// leaderPatience is how long an order waits for a controller to be elected, and
	// leaderEvery how often it looks.
	leaderPatience = 8 * time.Second
	leaderEvery    = 200 * time.Millisecond
)

// operators serves operators, who ask any broker: it checks what they ask,
// asks the brokers that know, and passes orders on to the one that can carry
// them out.
type operators struct {
	adminv1.UnimplementedAdminServiceServer

	cfg     Config
	conns   *rpc.Pool
	view    func() membership.View
	metrics *metrics
}

// ListSlots implements [adminv1.AdminServiceServer].
func (o *operators) ListSlots(ctx context.Context, req *adminv1.ListSlotsRequest) (*adminv1.ListSlotsResponse, error) {
	resp, err := o.listSlots(ctx, req)
	return resp, o.metrics.refuse(err)
}

func (o *operators) listSlots(ctx context.Context, req *adminv1.ListSlotsRequest) (*adminv1.ListSlotsResponse, error) {
	if _, known := adminv1.SlotState_name[int32(req.GetState())]; !known {
		return nil, invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, "state: there is no state %d", req.GetState())
	}
	if req.GetBroker() != "" {
		if err := checkName("a broker", req.GetBroker()); err != nil {
			return nil, err
		}
	}
	view, err := o.seen()
	if err != nil {
		return nil, err
	}
	if b := req.GetBroker(); b != "" && !slices.ContainsFunc(brokerInfos(view), func(i *adminv1.BrokerInfo) bool { return i.GetName() == b }) {
		return nil, unknown(view, b)
	}
	all := make([]*adminv1.SlotInfo, shard.Slots)
	for n := range all {
		all[n] = slotInfo(shard.Slot(n), view.Table.Row(shard.Slot(n)))
	}
	resp := &adminv1.ListSlotsResponse{Replicas: uint32(o.cfg.Replicas), Stale: !view.Connected}
	o.askAll(ctx, view, resp, all)
	for _, s := range all {
		judge(s, view)
		if (req.GetState() == 0 || s.GetState() == req.GetState()) && (req.GetBroker() == "" || names(s, req.GetBroker())) {
			resp.Slots = append(resp.Slots, s)
		}
	}
	return resp, nil
}

// askAll adds to all slots what the brokers know of theirs.
func (o *operators) askAll(ctx context.Context, view membership.View, resp *adminv1.ListSlotsResponse, all []*adminv1.SlotInfo) {
	var mu sync.Mutex
	o.each(ctx, view, func(ctx context.Context, n membership.Node) {
		var answer *adminv1.ListSlotsResponse
		client, err := o.client(n)
		if err == nil {
			answer, err = client.ListSlots(ctx, &adminv1.ListSlotsRequest{})
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			resp.Silent = append(resp.Silent, n.Name)
			return
		}
		if answer.GetController() != "" {
			resp.Controller = answer.GetController()
		}
		for _, s := range answer.GetSlots() {
			if s.GetSlot() < shard.Slots {
				all[s.GetSlot()] = merge(all[s.GetSlot()], s)
			}
		}
	})
	slices.Sort(resp.Silent)
}

// merge is what is known of a slot by two: the newer row, and what either says
// about the same term.
func merge(a, b *adminv1.SlotInfo) *adminv1.SlotInfo {
	if a.GetVersion() > b.GetVersion() {
		a, b = b, a
	}
	if a.GetTerm() == b.GetTerm() {
		if b.GetLog() == nil {
			b.Log = a.GetLog()
		}
		if b.GetWaitsFor() == "" {
			b.WaitsFor, b.Hint = a.GetWaitsFor(), a.GetHint()
		}
	}
	return b
}

// MoveSlot implements [adminv1.AdminServiceServer].
func (o *operators) MoveSlot(ctx context.Context, req *adminv1.MoveSlotRequest) (*adminv1.MoveSlotResponse, error) {
	check := func(view membership.View) error {
		if err := checkSlot(req.GetSlot()); err != nil {
			return err
		}
		_, err := named(view, req.GetBroker())
		return err
	}
	return passOn(ctx, o, check, o.leader, func(ctx context.Context, c adminv1.AdminServiceClient) (*adminv1.MoveSlotResponse, error) {
		return c.MoveSlot(ctx, req)
	})
}

// RecoverSlot implements [adminv1.AdminServiceServer].
func (o *operators) RecoverSlot(ctx context.Context, req *adminv1.RecoverSlotRequest) (*adminv1.RecoverSlotResponse, error) {
	check := func(membership.View) error {
		if err := checkSlot(req.GetSlot()); err != nil {
			return err
		}
		if !req.GetAcceptDataLoss() {
			return invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
				"recovering slot %d gives up for good what was acknowledged in it; set accept_data_loss if you mean that", req.GetSlot())
		}
		return nil
	}
	return passOn(ctx, o, check, o.leader, func(ctx context.Context, c adminv1.AdminServiceClient) (*adminv1.RecoverSlotResponse, error) {
		return c.RecoverSlot(ctx, req)
	})
}

// ListBrokers implements [adminv1.AdminServiceServer].
func (o *operators) ListBrokers(context.Context, *adminv1.ListBrokersRequest) (*adminv1.ListBrokersResponse, error) {
	view, err := o.seen()
	if err != nil {
		return nil, o.metrics.refuse(err)
	}
	return &adminv1.ListBrokersResponse{Brokers: brokerInfos(view), Stale: !view.Connected}, nil
}

// DrainBroker implements [adminv1.AdminServiceServer].
func (o *operators) DrainBroker(ctx context.Context, req *adminv1.DrainBrokerRequest) (*adminv1.DrainBrokerResponse, error) {
	return passOn(ctx, o, noCheck, o.named(req.GetBroker()), func(ctx context.Context, c adminv1.AdminServiceClient) (*adminv1.DrainBrokerResponse, error) {
		return c.DrainBroker(ctx, req)
	})
}

// UndrainBroker implements [adminv1.AdminServiceServer].
func (o *operators) UndrainBroker(ctx context.Context, req *adminv1.UndrainBrokerRequest) (*adminv1.UndrainBrokerResponse, error) {
	return passOn(ctx, o, noCheck, o.named(req.GetBroker()), func(ctx context.Context, c adminv1.AdminServiceClient) (*adminv1.UndrainBrokerResponse, error) {
		return c.UndrainBroker(ctx, req)
	})
}

// passOn checks an order and has the broker that is found carry it out. Where no
// controller is elected it waits for the next one for a while.
func passOn[R any](
	ctx context.Context, o *operators, check func(membership.View) error,
	find func(context.Context, membership.View) (membership.Node, error),
	order func(context.Context, adminv1.AdminServiceClient) (R, error),
) (resp R, err error) {
	defer func() { err = o.metrics.refuse(err) }()
	view, err := o.seen()
	if err != nil {
		return resp, err
	}
	if err := check(view); err != nil {
		return resp, err
	}
	patience := time.Now().Add(leaderPatience)
	for {
		resp, err = pass(ctx, o, find, order)
		if rpc.Reason(err) != channelv1.ErrorReason_ERROR_REASON_NO_CONTROLLER || time.Now().After(patience) || ctx.Err() != nil {
			return resp, err
		}
		backoff.Pause(ctx, leaderEvery) // the next one is being elected
	}
}

func pass[R any](
	ctx context.Context, o *operators, find func(context.Context, membership.View) (membership.Node, error),
	order func(context.Context, adminv1.AdminServiceClient) (R, error),
) (resp R, err error) {
	to, err := find(ctx, o.view())
	if err != nil {
		return resp, err
	}
	client, err := o.client(to)
	if err != nil {
		return resp, unavailable("broker", to, err)
	}
	ctx, cancel := context.WithTimeout(ctx, orderTimeout+5*time.Second)
	defer cancel()
	resp, err = order(ctx, client)
	if code := status.Code(err); rpc.Reason(err) == 0 && (code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Unimplemented) {
		return resp, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"broker %s, whose part it is, did not say whether it carried the order out: %s", to.Name, status.Convert(err).Message())
	}
	return resp, err
}

// seen is what the directory shows, once it has.
func (o *operators) seen() (membership.View, error) {
	view := o.view()
	if view.Table == nil {
		return view, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
			"this broker has not reached the directory yet")
	}
	return view, nil
}

// leader finds the broker that is the controller.
func (o *operators) leader(ctx context.Context, view membership.View) (membership.Node, error) {
	var mu sync.Mutex
	var leader membership.Node
	var silent []string
	o.each(ctx, view, func(ctx context.Context, n membership.Node) {
		leads, err := o.leads(ctx, n)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			silent = append(silent, n.Name)
		case leads:
			leader = n
		}
	})
	switch {
	case leader.Name != "":
		return leader, nil
	case len(silent) > 0:
		slices.Sort(silent)
		return leader, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NO_CONTROLLER,
			"none of the brokers that answer is the controller, and these do not answer: %s; try again in a few seconds", listed(silent))
	}
	return leader, errNoController
}

func (o *operators) leads(ctx context.Context, n membership.Node) (bool, error) {
	conn, err := o.conns.Conn(n.Addr)
	if err != nil {
		return false, err
	}
	who, err := brokerv1.NewBrokerServiceClient(conn).Identify(ctx, &brokerv1.IdentifyRequest{})
	return who.GetLeads() && who.GetMember() == n.Member(), err
}

// each calls fn for every broker at once, which has peerTimeout.
func (o *operators) each(ctx context.Context, view membership.View, fn func(ctx context.Context, n membership.Node)) {
	var group errgroup.Group
	group.SetLimit(maxAsked)
	for _, n := range view.With(membership.Broker) {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, peerTimeout)
			defer cancel()
			fn(ctx, n)
			return nil
		})
	}
	_ = group.Wait() // no fn fails
}

func (o *operators) client(n membership.Node) (adminv1.AdminServiceClient, error) {
	conn, err := o.conns.Conn(n.Addr)
	if err != nil {
		return nil, err
	}
	return adminv1.NewAdminServiceClient(conn), nil
}

// errNoController says that nobody carries orders out now.
var errNoController = rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_NO_CONTROLLER,
	"no broker is elected to be the controller, which carries orders out; try again in a few seconds")

func noCheck(membership.View) error { return nil }

func (o *operators) named(broker string) func(context.Context, membership.View) (membership.Node, error) {
	return func(_ context.Context, view membership.View) (membership.Node, error) { return named(view, broker) }
}

// named is the announced broker of a name.
func named(view membership.View, broker string) (membership.Node, error) {
	if err := checkName("a broker", broker); err != nil {
		return membership.Node{}, err
	}
	n, ok := view.Nodes[broker]
	if !ok || !n.Has(membership.Broker) {
		return n, unknown(view, broker)
	}
	return n, nil
}

// unknown is the refusal of a name that no broker has.
func unknown(view membership.View, broker string) error {
	var there []string
	for _, n := range view.With(membership.Broker) {
		there = append(there, n.Name)
	}
	return rpc.Error(codes.NotFound, channelv1.ErrorReason_ERROR_REASON_BROKER_UNKNOWN,
		"there is no broker named %s; there are: %s", broker, listed(there))
}

func listed(names []string) string {
	if len(names) > maxNamed {
		names = append(slices.Clone(names[:maxNamed]), "…")
	}
	return strings.Join(names, ", ")
}

func checkSlot(n uint32) error {
	if n >= shard.Slots {
		return invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, "there is no slot %d; they go from 0 to %d", n, shard.Slots-1)
	}
	return nil
}

// checkName says what is wrong with the name of a broker, or an edge.
func checkName(whose, name string) error {
	switch {
	case name == "":
		return invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, "the name of %s is needed", whose)
	case len(name) > maxNameBytes:
		return invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
			"the name of %s has %d bytes; at most %d are allowed", whose, len(name), maxNameBytes)
	case strings.ContainsAny(name, "@/") || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID, "%q is not the name of %s; give the part before @", name, whose)
	}
	return nil
}
