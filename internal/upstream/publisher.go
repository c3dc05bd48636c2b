package upstream

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/comet-push/comet/internal/membership"
)

// Conns gives connections by address; an [rpc.Pool].
type Conns interface {
	Conn(addr string) (*grpc.ClientConn, error)
}

// PublisherConfig configures a Publisher. Directory and Conns are required.
type PublisherConfig struct {
	// Node is this process as name@id, for logs.
	Node string
	// Directory says who owns the slots.
	Directory membership.Directory
	// Conns reaches their owners.
	Conns Conns
	// Timeout is how long a publish may take; 0: 8 s.
	Timeout time.Duration
	// MaxPending is how many bytes may wait in one slot; 0: 8 MiB.
	MaxPending int
	// MaxCount is how many publishes may wait in one slot; 0: 8192.
	MaxCount int
	// Registerer takes the metrics; nil: none are kept.
	Registerer prometheus.Registerer
	// Logger; nil: slog.Default().
	Logger *slog.Logger
}

// Publication is one message to publish. Its slices and strings must not
// change until it was answered.
type Publication struct {
	// Channel is a literal channel.
	Channel string
	// Data is one JSON value.
	Data []byte
	// Ext is a JSON object, or nothing.
	Ext []byte
	// Members are further members, `"name":value` joined by commas.
	Members []byte
	// Session and ID name the publisher; only on /service channels.
	Session, ID string
	// Key is the idempotency key; one is made where there is none.
	Key string
}

// Ack says where a publication stands.
type Ack struct {
	// Position is its offset.
	Position uint64
	// Duplicate: the key was known, nothing was appended.
	Duplicate bool
}

// Publisher publishes to the owners of slots. Safe for concurrent use.
type Publisher struct {
	cfg PublisherConfig
}

// NewPublisher returns a Publisher. Publications wait for Run.
func NewPublisher(cfg PublisherConfig) *Publisher { return &Publisher{cfg: cfg} }

// Publish queues a publication and never blocks. done is called once: with
// where it stands, or with a status error that carries its reason. It is
// called inline when refused at once, else from another goroutine, and must
// not block.
func (p *Publisher) Publish(m Publication, done func(Ack, error)) {}

// Run sends publications until ctx ends; then all that are unanswered, and all
// later ones, are answered UNAVAILABLE, or DRAINING where that is the cause.
func (p *Publisher) Run(ctx context.Context) error { <-ctx.Done(); return nil }
