package plain

import (
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// Reader is one request.
type Reader struct {
	cfg *Config
	req Request
}

// New makes the reader of a request; Start comes next. cfg is what
// Config.Defaults returned.
func New(cfg *Config, req Request, now time.Time) *Reader { return &Reader{cfg: cfg, req: req} }

// Encoding is the one in which events go to the stream after Deliver.
func (r *Reader) Encoding() event.Encoding { return r.req.Encoding }

// Ended is why the reader is over, or empty.
func (r *Reader) Ended() Reason { return "" }

// Queued is how many events wait for the stream.
func (r *Reader) Queued() int { return 0 }

// Start asks for the interests.
func (r *Reader) Start(now time.Time, out *Effects) {}

// Subscribed answers an Interest: err, or that everything on it after the
// positions is given to Deliver, or was already. A literal channel has one
// position, a pattern one per slot. The reader does not keep from.
func (r *Reader) Subscribed(now time.Time, token uint64, from []shard.Position, err *bayeux.Error, out *Effects) {
}

// Replayed answers a Read: err, or a page.
func (r *Reader) Replayed(now time.Time, token uint64, page Page, err *bayeux.Error, out *Effects) {}

// Deliver gives the reader an entry that matches one of its interests, via. It
// reports whether the event is to be sent to the stream now, in the reader's
// Encoding; out is then untouched. Otherwise out says what is to be done.
func (r *Reader) Deliver(now time.Time, via string, e *event.Event, out *Effects) (send bool) {
	return false
}

// Resync says that entries of an interest up to the position are lost.
func (r *Reader) Resync(now time.Time, channel string, at shard.Position, out *Effects) {}

// Blocked says that the stream is full.
func (r *Reader) Blocked() {}

// Writable says that the stream is not full.
func (r *Reader) Writable(now time.Time, out *Effects) {}

// Deadline is when Tick is due; zero: never.
func (r *Reader) Deadline() time.Time { return time.Time{} }

// Tick says that Deadline may have come.
func (r *Reader) Tick(now time.Time, out *Effects) {}

// End ends the reader: a stream with an end, a poll with what it has. retry is
// what the client is asked to wait, 0: about Config.Retry.
func (r *Reader) End(now time.Time, reason Reason, retry time.Duration, out *Effects) {}

// Lost says that the peer vanished, or that the stream has ended.
func (r *Reader) Lost(out *Effects) {}
