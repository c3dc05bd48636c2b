package edge

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
	"github.com/comet-push/comet/services/edge/internal/session"
)

const (
	readersAtOnce = 16   // reads of history at once
	readQueue     = 4096 // replays that wait for a reader
	longestPage   = 256  // entries read at once
)

// replays asks brokers for history that no ring has. Who reads asks for one
// page after the other, when there is room.
type replays struct {
	reader Reader
	queue  chan question
}

// question is pages that somebody waits for.
type question interface {
	// parts is how many reads it takes, which can be done in any order, or at
	// once.
	parts() int
	// ask does one of them; the last to be done answers.
	ask(ctx context.Context, reader Reader, part int)
}

// read is the question of a session.
type read struct {
	client *client
	session.Replay
}

// replay answers from the ring, or lets a reader ask.
func (s *Service) replay(c *client, r session.Replay) {
	r.Limit = min(r.Limit, longestPage)
	if !r.Earliest {
		if events, through, ok := s.hub.Replay(r.Channel, r.Since, r.Limit); ok {
			c.replayed(r.Token, session.Page{Events: events, Through: through}, nil)
			return
		}
	}
	select {
	case s.replays.queue <- read{c, r}:
	default:
		s.refused(channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
		c.replayed(r.Token, session.Page{}, bayeux.LimitExceeded("replays"))
	}
}

// Run reads until ctx ends. Replays that are left then are of sessions that
// have ended.
func (p *replays) Run(ctx context.Context) error {
	var reads errgroup.Group
	reads.SetLimit(readersAtOnce)
	for {
		select {
		case <-ctx.Done():
			return reads.Wait()
		case q := <-p.queue:
			for part := range q.parts() {
				reads.Go(func() error {
					q.ask(ctx, p.reader, part)
					return nil
				})
			}
		}
	}
}

func (r read) parts() int { return 1 }

func (r read) ask(ctx context.Context, reader Reader, _ int) {
	request := &brokerv1.ReadRequest{Channel: r.Channel, Limit: uint32(r.Limit)}
	if !r.Earliest {
		request.Since = &r.Since
	}
	response, err := reader.Read(ctx, request)
	if err != nil {
		r.client.replayed(r.Token, session.Page{}, bayeux.Unavailable())
		return
	}
	page := session.Page{Through: max(response.GetThrough(), r.Since), Lost: response.GetLost()}
	slot := shard.Of(r.Channel)
	for _, e := range response.GetEntries() {
		page.Events = append(page.Events, newEvent(slot, e))
	}
	r.client.replayed(r.Token, page, nil)
}

func newEvent(slot shard.Slot, e *brokerv1.Entry) *event.Event {
	var appended time.Time
	if ms := e.GetTimeMs(); ms > 0 {
		appended = time.UnixMilli(ms)
	}
	at := shard.Position{Slot: slot, Offset: e.GetOffset()}
	return event.New(e.GetChannel(), at, e.GetData(), e.GetExt(), e.GetMembers(), appended)
}
