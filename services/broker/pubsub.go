package broker

import (
	"sync/atomic"

	pubsubv1 "github.com/comet-push/comet/gen/comet/pubsub/v1"
	"github.com/comet-push/comet/internal/membership"
	"github.com/comet-push/comet/internal/records"
	"github.com/comet-push/comet/internal/upstream"
)

// pubsub serves backends. It owns nothing: whoever owns a channel is reached
// through the upstream.
type pubsub struct {
	pubsubv1.UnimplementedPubSubServiceServer

	cfg       Config
	deps      Deps
	view      func() membership.View
	publisher *upstream.Publisher
	reader    *upstream.Reader
	records   *records.Client
	metrics   *metrics
	drained   <-chan struct{} // closed when subscribers are to leave

	subscriptions atomic.Int64
}
