package broker

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"

	"golang.org/x/sync/errgroup"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
)

// maxAsked is how many brokers are asked at a time.
const maxAsked = 16

// ListChannels implements [pubsubv1.PubSubServiceServer]: one page of every
// broker, merged by name.
func (p *pubsub) ListChannels(ctx context.Context, req *pubsubv1.ListChannelsRequest) (*pubsubv1.ListChannelsResponse, error) {
	ask, err := checkList(req)
	if err != nil {
		return nil, p.metrics.refuse(err)
	}
	found, err := p.askAll(ctx, ask)
	if err != nil {
		return nil, p.metrics.refuse(err)
	}
	resp := &pubsubv1.ListChannelsResponse{}
	if size := int(ask.GetLimit()) - 1; len(found) > size {
		found = found[:size]
		resp.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(found[size-1].GetChannel()))
	}
	for _, c := range found {
		resp.Channels = append(resp.Channels, &pubsubv1.ChannelInfo{
			Channel: c.GetChannel(), Position: c.GetOffset(), Messages: c.GetMessages(), Subscribers: c.GetSubscribers(),
		})
	}
	return resp, nil
}

// checkList returns what to ask brokers: one channel more than the page has,
// which tells whether there is another page.
func checkList(req *pubsubv1.ListChannelsRequest) (*brokerv1.ListChannelsRequest, error) {
	pattern := cmp.Or(req.GetPattern(), "/**")
	if err := checkInterest(pattern, true); err != nil {
		return nil, err
	}
	size, err := pageSize("page_size", req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(req.GetPageToken())
	if err != nil {
		return nil, invalid(channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
			"page_token is not one that this method returned")
	}
	return &brokerv1.ListChannelsRequest{Pattern: pattern, After: string(after), Limit: uint32(size) + 1}, nil
}

// askAll asks every broker and returns the channels by name.
func (p *pubsub) askAll(ctx context.Context, ask *brokerv1.ListChannelsRequest) ([]*brokerv1.ChannelInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	brokers := p.view().With(membership.Broker)
	pages := make([][]*brokerv1.ChannelInfo, len(brokers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxAsked)
	for i, b := range brokers {
		group.Go(func() error {
			conn, err := p.deps.Conns.Conn(b.Addr)
			if err != nil {
				return unavailable("broker", b, err)
			}
			page, err := brokerv1.NewBrokerServiceClient(conn).ListChannels(ctx, ask)
			if err != nil {
				return unavailable("broker", b, err)
			}
			pages[i] = page.GetChannels()
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return mergeByName(pages), nil
}

// mergeByName merges pages; of a channel whose slot was just moved the newer
// owner's word counts. Subscribers are those of all copies.
func mergeByName(pages [][]*brokerv1.ChannelInfo) []*brokerv1.ChannelInfo {
	all := slices.Concat(pages...)
	slices.SortFunc(all, func(a, b *brokerv1.ChannelInfo) int {
		return cmp.Or(cmp.Compare(a.GetChannel(), b.GetChannel()), cmp.Compare(b.GetOffset(), a.GetOffset()))
	})
	merged := all[:0]
	for _, c := range all {
		if last := len(merged) - 1; last >= 0 && merged[last].GetChannel() == c.GetChannel() {
			merged[last].Subscribers += c.GetSubscribers()
			continue
		}
		merged = append(merged, c)
	}
	clear(all[len(merged):])
	return merged
}
