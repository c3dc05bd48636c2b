package broker

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// History implements [pubsubv1.PubSubServiceServer].
func (p *pubsub) History(ctx context.Context, req *pubsubv1.HistoryRequest) (*pubsubv1.HistoryResponse, error) {
	read, err := p.checkHistory(req)
	if err != nil {
		return nil, p.metrics.refuse(err)
	}
	page, err := p.reader.Read(ctx, read)
	if err != nil {
		return nil, p.metrics.refuse(err)
	}
	if page.GetLost() {
		return nil, p.metrics.refuse(rpc.Error(codes.OutOfRange, channelv1.ErrorReason_ERROR_REASON_HISTORY_LOST,
			"messages of %s after %s are no longer retained; read without since, or go on after %d",
			req.GetChannel(), req.GetSince(), page.GetThrough()))
	}
	resp := &pubsubv1.HistoryResponse{Cursor: scalarCursor(req.GetChannel(), page.GetThrough())}
	for _, e := range page.GetEntries() {
		resp.Messages = append(resp.Messages, message(e))
	}
	return resp, nil
}

func (p *pubsub) checkHistory(req *pubsubv1.HistoryRequest) (*brokerv1.ReadRequest, error) {
	channel := req.GetChannel()
	if err := checkLiteral(channel); err != nil {
		return nil, err
	}
	if err := checkSubscribe(p.deps.Namespaces, []string{channel}, p.cfg.AnyPattern); err != nil {
		return nil, err
	}
	limit, err := pageSize("limit", req.GetLimit())
	if err != nil {
		return nil, err
	}
	read := &brokerv1.ReadRequest{Channel: channel, Limit: uint32(limit), Reverse: req.GetReverse()}
	if req.GetSince() == "" || req.GetSince() == shard.Earliest {
		return read, nil
	}
	at, err := shard.ParseCursor([]string{channel}, req.GetSince())
	if err != nil {
		return nil, cursorInvalid(err)
	}
	since := at[shard.Of(channel)]
	read.Since = &since
	return read, nil
}

func cursorInvalid(err error) error {
	return invalid(channelv1.ErrorReason_ERROR_REASON_CURSOR_INVALID, "since: %v", err)
}

func scalarCursor(channel string, position uint64) string {
	return shard.FormatCursor([]string{channel}, map[shard.Slot]uint64{shard.Of(channel): position})
}

// message is an entry as subscribers and readers of history get it.
func message(e *brokerv1.Entry) *channelv1.Message {
	m := &channelv1.Message{
		Channel: e.GetChannel(), Position: e.GetOffset(), Data: e.GetData(), Ext: e.GetExt(),
		Time: timestamppb.New(time.UnixMilli(e.GetTimeMs())),
	}
	if e.GetSession() != "" {
		session, id := e.GetSession(), e.GetId()
		m.Session, m.Id = &session, &id
	}
	return m
}
