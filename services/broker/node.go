package broker

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/hub"
	"github.com/comet-push/comet/services/broker/internal/replica/transport"
)

// node serves edges and other brokers.
type node struct {
	brokerv1.UnimplementedBrokerServiceServer

	cfg     Config
	member  string
	places  *places
	mesh    *transport.Mesh
	metrics *metrics
	drained <-chan struct{} // closed when followers are to leave
	leads   func() bool     // whether this broker is the controller
}

// ListChannels implements [brokerv1.BrokerServiceServer].
func (n *node) ListChannels(_ context.Context, req *brokerv1.ListChannelsRequest) (*brokerv1.ListChannelsResponse, error) {
	if !bayeux.ValidChannel(req.GetPattern()) || req.GetLimit() == 0 {
		return nil, status.Error(codes.InvalidArgument, "a pattern and a limit are needed")
	}
	limit := int(min(req.GetLimit(), maxPage+1)) // one more tells of another page
	var all []*brokerv1.ChannelInfo
	for at := range shard.Slot(shard.Slots) {
		for _, c := range n.places.list(at, req.GetPattern(), req.GetAfter(), limit) {
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

func (s *places) list(n shard.Slot, pattern, after string, limit int) []hub.Info {
	p := &s.all[n]
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.leads():
		return p.fanOut.List(pattern, after, limit)
	case !p.relays || !p.fanOut.Followed():
		return nil
	}
	// Its primary has the same channels, but not these followers.
	return slices.DeleteFunc(p.fanOut.List(pattern, after, limit), func(c hub.Info) bool { return c.Followers == 0 })
}

// Identify implements [brokerv1.BrokerServiceServer].
func (n *node) Identify(context.Context, *brokerv1.IdentifyRequest) (*brokerv1.IdentifyResponse, error) {
	return &brokerv1.IdentifyResponse{Member: n.member, Leads: n.leads()}, nil
}

// ListRows implements [brokerv1.BrokerServiceServer].
func (n *node) ListRows(_ context.Context, req *brokerv1.ListRowsRequest) (*brokerv1.ListRowsResponse, error) {
	table := n.places.known().Table
	resp := &brokerv1.ListRowsResponse{}
	for at := range shard.Slot(shard.Slots) {
		row := table.Row(at)
		if row.Version <= req.GetAfter() {
			continue
		}
		text, err := row.MarshalText()
		if err != nil {
			return nil, fmt.Errorf("tell the row of slot %d: %w", at, err)
		}
		resp.Rows = append(resp.Rows, &brokerv1.SlotRow{Slot: uint32(at), Version: row.Version, Row: text})
	}
	return resp, nil
}

// Replicate implements [brokerv1.BrokerServiceServer].
func (n *node) Replicate(stream grpc.BidiStreamingServer[brokerv1.ReplicateRequest, brokerv1.ReplicateResponse]) error {
	return n.mesh.Accept(stream)
}
