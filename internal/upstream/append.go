package upstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// appendStream is one Append call to a broker.
type appendStream struct {
	publisher *Publisher
	member    string
	cancel    context.CancelFunc
	out       *outbox[brokerv1.Offer]

	// Guarded by Publisher.mu.
	first   uint64           // request id of the first of pending
	pending []*pending       // by request id; nil: answered
	flying  [shard.Slots]int // how many of these are of each slot
}

// dialLocked opens a stream to the owner of a slot. It can be sent to at once.
func (p *Publisher) dialLocked(ctx context.Context, r shard.Row) *appendStream {
	ctx, cancel := context.WithCancel(ctx)
	st := &appendStream{
		publisher: p, member: r.Primary, cancel: cancel,
		out: newOutbox[brokerv1.Offer](), first: 1,
	}
	p.targets[st.member] = st
	p.streams.Go(func() {
		err := st.run(ctx, r.Addr)
		cancel()
		giveUp(p.lost(st, err))
	})
	return st
}

// AppendCall is an Append call as its caller has it.
type AppendCall interface {
	Send(*brokerv1.AppendRequest) error
	// Recv returns answers that are good until the next call.
	Recv() (*brokerv1.AppendResponse, error)
}

// call calls the broker.
func (st *appendStream) call(ctx context.Context, addr string) (AppendCall, error) {
	cfg := &st.publisher.cfg
	if st.member == cfg.Node && cfg.Own != nil {
		return cfg.Own(ctx), nil
	}
	conn, err := cfg.Conns.Conn(addr)
	if err != nil {
		return nil, err
	}
	return brokerv1.NewBrokerServiceClient(conn).Append(ctx, grpc.WaitForReady(true))
}

func (st *appendStream) run(ctx context.Context, addr string) error {
	stream, err := st.call(ctx, addr)
	if err != nil {
		return err
	}
	send := func(offers []*brokerv1.Offer) error {
		for len(offers) > 0 {
			n := fit(offers)
			if err := stream.Send(&brokerv1.AppendRequest{Offers: offers[:n]}); err != nil {
				return err
			}
			offers = offers[n:]
		}
		return nil
	}
	return converse(st.cancel, st.out, send, func() error {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, answer := range resp.GetAnswers() {
			st.publisher.receive(st, answer)
		}
		return nil
	})
}

// fit returns how many offers are sent in one message: 256 KiB of them, or one.
func fit(offers []*brokerv1.Offer) int {
	const most = 256 << 10
	n, bytes := 0, 0
	for n < len(offers) {
		x := offers[n]
		bytes += overhead + len(x.GetChannel()) + len(x.GetData()) + len(x.GetExt()) + len(x.GetMembers())
		if n > 0 && bytes > most {
			break
		}
		n++
	}
	return n
}

// sendLocked sends a publication, for the first time or again, because of the
// row of the given version.
func (st *appendStream) sendLocked(x *pending, version int64) {
	req := x.again()
	req.RequestId, req.Version = st.first+uint64(len(st.pending)), version
	x.on = st
	st.pending = append(st.pending, x)
	st.flying[x.slot]++
	st.out.put(req)
}

// lost stops the lanes of a stream that ended. It returns what was refused
// there before something that may have been accepted.
func (p *Publisher) lost(st *appendStream, err error) []*pending {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.targets[st.member] == st {
		delete(p.targets, st.member)
	}
	if p.ended != nil {
		return nil
	}
	used := false
	var overtaken []*pending
	for s := range p.lanes {
		l := &p.lanes[s]
		if st.flying[s] > 0 {
			overtaken = append(overtaken, l.takeRefused(l.lastOn(st))...)
		}
		if l.stream == st {
			used = true
			l.fail(now)
		}
		p.advanceLocked(l, now)
	}
	if used {
		p.metrics.reconnects.Inc()
		if !errors.Is(err, io.EOF) {
			p.logger.Info("lost the stream to a broker; publishes will be sent again",
				slog.String("broker", st.member), slog.Any("err", err))
		}
	}
	return overtaken
}

// receive handles an answer.
func (p *Publisher) receive(st *appendStream, resp *brokerv1.Answer) {
	now := time.Now()
	switch resp.GetRefused() {
	case channelv1.ErrorReason_ERROR_REASON_UNSPECIFIED:
		x, overtaken := p.committed(st, resp.GetRequestId(), resp.GetOffset(), now)
		giveUp(overtaken)
		if x != nil {
			x.done(Ack{Position: resp.GetOffset(), Duplicate: resp.GetDuplicate()}, nil)
		}
	case channelv1.ErrorReason_ERROR_REASON_MOVED, channelv1.ErrorReason_ERROR_REASON_DRAINING:
		p.moved(st, resp.GetRequestId(), now)
	default:
		if x := p.refused(st, resp.GetRequestId(), now); x != nil {
			x.done(Ack{}, errRefused(resp.GetRefused(), resp.GetDetail()))
		}
	}
}

// claimLocked returns what a request id stands for, and its lane; nothing for
// an answer that came too late, or after it was sent elsewhere.
func (p *Publisher) claimLocked(st *appendStream, id uint64) (*pending, *lane) {
	i := id - st.first // wraps around below it
	if i >= uint64(len(st.pending)) || st.pending[i] == nil {
		return nil, nil
	}
	x := st.pending[i]
	st.pending[i] = nil
	for len(st.pending) > 0 && st.pending[0] == nil {
		st.pending = st.pending[1:]
		st.first++
	}
	st.flying[x.slot]--
	l := &p.lanes[x.slot]
	if x.on != st || x.req.GetRequestId() != id || x.answered {
		x = nil
	}
	return x, l
}

// committed takes what was accepted out of its lane, with what it overtook. An
// offset below the base of the row belongs to a log that is lost: the word of
// its broker is worth nothing any more.
func (p *Publisher) committed(
	st *appendStream, id, offset uint64, now time.Time,
) (x *pending, overtaken []*pending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, l := p.claimLocked(st, id)
	switch {
	case x == nil:
	case offset <= p.table.Row(l.slot).Base:
		l.refuse(x, st, now)
		x = nil
	default:
		l.failures = 0
		if l.stream == nil {
			overtaken = l.takeRefused(x)
		}
		l.settle(x)
	}
	if l != nil {
		p.advanceLocked(l, now)
	}
	return x, overtaken
}

func (p *Publisher) refused(st *appendStream, id uint64, now time.Time) *pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, l := p.claimLocked(st, id)
	if x != nil {
		l.settle(x)
	}
	if l != nil {
		p.advanceLocked(l, now)
	}
	return x
}

func (p *Publisher) moved(st *appendStream, id uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x, l := p.claimLocked(st, id)
	if x != nil {
		l.refuse(x, st, now)
	}
	if l != nil {
		p.advanceLocked(l, now)
	}
}

// errRefused is a broker's refusal as callers see it.
func errRefused(reason channelv1.ErrorReason, detail string) error {
	code := codes.Unavailable
	switch reason {
	case channelv1.ErrorReason_ERROR_REASON_BUSY, channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED:
		code = codes.ResourceExhausted
	case channelv1.ErrorReason_ERROR_REASON_KEY_REUSED:
		code = codes.AlreadyExists
	case channelv1.ErrorReason_ERROR_REASON_PUBLISH_DENIED:
		code = codes.PermissionDenied
	case channelv1.ErrorReason_ERROR_REASON_CHANNEL_INVALID, channelv1.ErrorReason_ERROR_REASON_PARAMETER_INVALID,
		channelv1.ErrorReason_ERROR_REASON_DATA_INVALID, channelv1.ErrorReason_ERROR_REASON_JSON_INVALID,
		channelv1.ErrorReason_ERROR_REASON_MESSAGE_TOO_LARGE:
		code = codes.InvalidArgument
	}
	return rpc.Error(code, reason, "%s", detail)
}
