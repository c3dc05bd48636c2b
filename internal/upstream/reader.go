package upstream

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/rpc"
	"github.com/comet-push/comet/internal/shard"
)

// ReaderConfig configures a Reader. Directory and Conns are required.
type ReaderConfig struct {
	// Directory says who owns the slots.
	Directory membership.Directory
	// Conns reaches their owners.
	Conns *rpc.Pool
	// Timeout is how long a read may take, whatever its context allows; 0: 5 s.
	Timeout time.Duration
}

// Reader reads history at the owners of slots. Safe for concurrent use.
type Reader struct {
	cfg ReaderConfig

	mu    sync.Mutex
	table *shard.Table
	newer chan struct{} // closed when the table changes
}

// NewReader returns a Reader. Reads wait for Run.
func NewReader(cfg ReaderConfig) *Reader {
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	return &Reader{cfg: cfg, newer: make(chan struct{})}
}

// Run keeps up with the directory until ctx ends.
func (r *Reader) Run(ctx context.Context) error {
	for v := range r.cfg.Directory.Watch(ctx) {
		r.see(v)
	}
	return nil
}

func (r *Reader) see(v membership.View) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.table = v.Table
	close(r.newer)
	r.newer = make(chan struct{})
}

func (r *Reader) owner(s shard.Slot) (shard.Row, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Row(s), r.newer
}

// Read reads a piece of the history of a channel, or of channels and patterns
// in a slot, at the primary, wherever that moves meanwhile. Errors are statuses: the broker's, or UNAVAILABLE when none
// answered in time. The answer's through is never below the request's since.
func (r *Reader) Read(ctx context.Context, req *brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
	return r.ReadAtLeast(ctx, req, req.GetSince())
}

// ReadAtLeast is Read for a caller that knows that the position is committed.
// An answer that does not reach it is asked for again (CORRECTNESS rule 11),
// unless it is a page, which goes on after its last entry.
func (r *Reader) ReadAtLeast(
	ctx context.Context, req *brokerv1.ReadRequest, known uint64,
) (*brokerv1.ReadResponse, error) {
	own, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	slot, what := target(req)
	why := "nobody owns its slot"
	for failures := 1; ; failures++ {
		to, newer := r.owner(slot)
		if to.Addr != "" {
			resp, err := r.ask(own, to, req)
			switch {
			case err == nil && reaches(resp, req, known):
				return resp, nil
			case err == nil:
				why = "its owner does not have all that is committed yet"
			case !passing(err):
				return nil, err
			default:
				why = status.Convert(err).Message()
			}
		}
		select {
		case <-newer:
		case <-time.After(retry(failures)):
		case <-own.Done():
			if ctx.Err() != nil {
				return nil, status.FromContextError(ctx.Err()).Err()
			}
			return nil, rpc.Error(codes.Unavailable, channelv1.ErrorReason_ERROR_REASON_UNAVAILABLE,
				"read of %s: no answer in time: %s; try again", what, why)
		}
	}
}

// target returns the slot that a request is about, and what to call it.
func target(req *brokerv1.ReadRequest) (slot shard.Slot, what string) {
	if req.Slot == nil {
		return shard.Of(req.GetChannel()), req.GetChannel()
	}
	slot = shard.Slot(min(req.GetSlot(), shard.Slots-1)) // what is too high the broker refuses
	return slot, fmt.Sprintf("slot %d", slot)
}

func (r *Reader) ask(ctx context.Context, to shard.Row, req *brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
	conn, err := r.cfg.Conns.Conn(to.Addr)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return brokerv1.NewBrokerServiceClient(conn).Read(ctx, req)
}

// reaches reports whether an answer is as new as what the caller knows.
func reaches(resp *brokerv1.ReadResponse, req *brokerv1.ReadRequest, known uint64) bool {
	page := !req.GetReverse() && len(resp.GetEntries()) > 0
	return resp.GetLost() || page || resp.GetThrough() >= known
}

// passing reports whether an error may be gone, or somewhere else, soon.
func passing(err error) bool {
	switch rpc.Reason(err) {
	case channelv1.ErrorReason_ERROR_REASON_MOVED, channelv1.ErrorReason_ERROR_REASON_DRAINING:
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}
