package upstream

import (
	"context"
	"time"

	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	"github.com/comet-push/comet/internal/membership"
)

// ReaderConfig configures a Reader. Directory and Conns are required.
type ReaderConfig struct {
	// Directory says who owns the slots.
	Directory membership.Directory
	// Conns reaches their owners.
	Conns Conns
	// Timeout is how long a read may take, whatever its context allows; 0: 5 s.
	Timeout time.Duration
}

// Reader reads history at the owners of slots. Safe for concurrent use.
type Reader struct {
	cfg ReaderConfig
}

// NewReader returns a Reader. Reads wait for Run.
func NewReader(cfg ReaderConfig) *Reader { return &Reader{cfg: cfg} }

// Read reads a piece of a channel's history at the primary. Its through is
// never below the request's since.
func (r *Reader) Read(ctx context.Context, req *brokerv1.ReadRequest) (*brokerv1.ReadResponse, error) {
	return r.ReadAtLeast(ctx, req, req.GetSince())
}

// ReadAtLeast is Read for a caller that knows that the position is committed.
// An answer that does not reach it is not taken, unless it is a page that goes
// on after its last entry.
func (r *Reader) ReadAtLeast(ctx context.Context, req *brokerv1.ReadRequest, known uint64) (*brokerv1.ReadResponse, error) {
	return nil, ctx.Err()
}

// Run keeps up with the directory until ctx ends.
func (r *Reader) Run(ctx context.Context) error { <-ctx.Done(); return nil }
