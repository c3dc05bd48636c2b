package broker

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/hub"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"
)

// maxPageBytes bounds one page of history, below what gRPC clients take unless
// told otherwise.
const maxPageBytes = 3 << 20

// node serves edges and other brokers.
type node struct {
	brokerv1.UnimplementedBrokerServiceServer

	cfg     Config
	member  string
	slots   *ownership
	metrics *metrics
	drained <-chan struct{} // closed when followers are to leave
}

// Read implements [brokerv1.BrokerServiceServer].
func (n *node) Read(_ context.Context, req *brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
	at, names, err := readWhat(req)
	if err != nil {
		return nil, err
	}
	q := history.Query{
		Channel: req.GetChannel(), Names: names, Since: req.GetSince(), Earliest: req.Since == nil,
		Limit: int(min(req.GetLimit(), maxPage)), Reverse: req.GetReverse(),
	}
	if q.Channel == "" && len(names) == 0 {
		q.Limit = 0 // nothing that is asked for can be here
	}
	page, err := n.slots.read(at, q)
	if errors.Is(err, errMoved) {
		return nil, rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_MOVED,
			"slot %d is not owned here by row version %d", at, n.slots.places[at].version.Load())
	}
	if err != nil {
		return nil, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE, "%v", err)
	}
	fit(&page, req.GetReverse())
	resp := &brokerv1.ReadResponse{Through: page.Through, Lost: page.Lost, LostChannels: page.Gone}
	for _, e := range page.Entries {
		resp.Entries = append(resp.Entries, entry(e))
	}
	return resp, nil
}

// readWhat checks a request and returns its slot and, with slot, those of its
// channels and patterns that can have entries there.
func readWhat(req *brokerv1.ReadRequest) (at shard.Slot, names []string, err error) {
	if req.Slot == nil {
		if !bayeux.ValidLiteral(req.GetChannel()) || len(req.GetChannels()) > 0 {
			return 0, nil, status.Error(codes.InvalidArgument, "a literal channel, or a slot and channels, are needed")
		}
		return shard.Of(req.GetChannel()), nil, nil
	}
	if req.GetSlot() >= shard.Slots || req.GetChannel() != "" || req.GetReverse() || len(req.GetChannels()) == 0 {
		return 0, nil, status.Error(codes.InvalidArgument, "a slot is read forward, for some channels")
	}
	at = shard.Slot(req.GetSlot())
	for _, name := range req.GetChannels() {
		if !bayeux.ValidChannel(name) || bayeux.IsMeta(name) {
			return 0, nil, status.Error(codes.InvalidArgument, "one of the channels is neither a channel nor a pattern")
		}
		if bayeux.IsPattern(name) || shard.Of(name) == at {
			names = append(names, name)
		}
	}
	return at, names, nil
}

// fit shortens a page that has too many bytes, but not to nothing.
func fit(page *history.Page, reverse bool) {
	bytes := 0
	for i, e := range page.Entries {
		bytes += e.Cost()
		if bytes > maxPageBytes && i > 0 {
			page.Entries = page.Entries[:i]
			if !reverse {
				page.Through = page.Entries[i-1].Offset
			}
			return
		}
	}
}

func (o *ownership) read(n shard.Slot, q history.Query) (history.Page, error) {
	p := &o.places[n]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == nil {
		return history.Page{}, errMoved
	}
	return p.log.Read(q)
}

// ListChannels implements [brokerv1.BrokerServiceServer].
func (n *node) ListChannels(_ context.Context, req *brokerv1.ListChannelsRequest) (*brokerv1.ListChannelsResponse, error) {
	if !bayeux.ValidChannel(req.GetPattern()) || req.GetLimit() == 0 {
		return nil, status.Error(codes.InvalidArgument, "a pattern and a limit are needed")
	}
	limit := int(min(req.GetLimit(), maxPage+1)) // one more tells of another page
	var all []*brokerv1.ChannelInfo
	for at := range shard.Slot(shard.Slots) {
		for _, c := range n.slots.list(at, req.GetPattern(), req.GetAfter(), limit) {
			all = append(all, &brokerv1.ChannelInfo{
				Channel: c.Channel, Offset: c.Last, Messages: uint32(c.Messages), Subscribers: uint32(c.Followers),
			})
		}
		if len(all) > 4*limit { // keeps memory and the last sort small
			all = firstByName(all, limit)
		}
	}
	return &brokerv1.ListChannelsResponse{Channels: firstByName(all, limit)}, nil
}

func firstByName(all []*brokerv1.ChannelInfo, limit int) []*brokerv1.ChannelInfo {
	all = mergeByName([][]*brokerv1.ChannelInfo{all})
	return all[:min(limit, len(all))]
}

func (o *ownership) list(n shard.Slot, pattern, after string, limit int) []hub.Info {
	p := &o.places[n]
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log == nil {
		return nil
	}
	return p.fanOut.List(pattern, after, limit)
}

// Identify implements [brokerv1.BrokerServiceServer].
func (n *node) Identify(context.Context, *brokerv1.IdentifyRequest) (*brokerv1.IdentifyResponse, error) {
	return &brokerv1.IdentifyResponse{Member: n.member}, nil
}

// StepDown implements [brokerv1.BrokerServiceServer].
func (n *node) StepDown(_ context.Context, req *brokerv1.StepDownRequest) (*brokerv1.StepDownResponse, error) {
	for _, s := range req.GetSlots() {
		if s.GetSlot() >= shard.Slots {
			return nil, status.Error(codes.InvalidArgument, "no such slot")
		}
	}
	n.slots.stepDown(req.GetSlots())
	return &brokerv1.StepDownResponse{}, nil
}

// replicatingNode serves brokers that hold copies of the same slots, too.
type replicatingNode struct {
	*node
	mesh *transport.Mesh
}

// Replicate implements [brokerv1.BrokerServiceServer].
func (n replicatingNode) Replicate(stream grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse]) error {
	return n.mesh.Accept(stream)
}
