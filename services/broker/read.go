package broker

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/broker/internal/history"
	"github.com/comet-push/comet/services/broker/internal/replica"
	"github.com/comet-push/comet/services/broker/internal/slot"
)

// maxPageBytes bounds one page of history, below what gRPC clients take unless
// told otherwise.
const maxPageBytes = 3 << 20

// errNotYet: the slot is led here, but a read would not be sure to see all that
// is committed.
var errNotYet = errors.New("the slot's copies have not all been heard yet")

// Read implements [brokerv1.BrokerServiceServer].
func (n *node) Read(ctx context.Context, req *brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
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
	page, err := n.places.read(ctx, at, q)
	if errors.Is(err, replica.ErrMoved) {
		return nil, rpc.Error(codes.FailedPrecondition, channelv1.ErrorReason_ERROR_REASON_MOVED,
			"slot %d is not owned here by row version %d", at, n.places.all[at].version.Load())
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

// read reads a slot. It waits where the slot has only begun to be led here,
// where its copies have not been heard of for a while, where the position is
// not committed yet (CORRECTNESS rule 11), and where it is beyond the log: another
// broker may lead the slot without this one knowing it. But not for long: its
// caller looks then who leads the slot.
func (s *places) read(ctx context.Context, n shard.Slot, q history.Query) (history.Page, error) {
	arrived := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.freshFor())
	defer cancel()
	for {
		page, changed, err := s.tryRead(n, q, arrived)
		if changed == nil {
			return page, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return history.Page{}, err
		}
	}
}

// tryRead reads a slot, or says what to wait for, and why.
func (s *places) tryRead(n shard.Slot, q history.Query, arrived time.Time) (history.Page, <-chan struct{}, error) {
	p := &s.all[n]
	p.mu.Lock()
	defer p.mu.Unlock()
	beyond := !q.Earliest && q.Since > p.log.End()
	switch {
	case errors.Is(p.replica.Admit(time.Now()), replica.ErrMoved):
		return history.Page{}, nil, replica.ErrMoved
	case !p.leads(), !s.fresh(p):
		return history.Page{}, p.change(), errNotYet
	case beyond && !p.provenSince(arrived):
		s.mesh.Probe()
		return history.Page{}, p.change(), errNotYet
	}
	page, err := p.log.Read(q)
	if errors.Is(err, slot.ErrAhead) {
		return history.Page{}, p.change(), err
	}
	return page, nil, err
}
