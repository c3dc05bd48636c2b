package edge

import (
	"context"
	"time"

	"github.com/comet-push/comet/bayeux"
	brokerv1 "github.com/comet-push/comet/gen/comet/broker/v1"
	channelv1 "github.com/comet-push/comet/gen/comet/channel/v1"
	"github.com/comet-push/comet/services/edge/internal/plain"
)

// carryOutFor asks the hub and history what a reader wants. Nothing here blocks.
func (d *plainDoor) carryOutFor(r *reader, o *orders) {
	for _, i := range o.interests {
		if i.Leave {
			d.hub.Unsubscribe(r, i.Channel)
		} else {
			d.hub.Subscribe(time.Now(), r, i.Token, i.Channel)
		}
	}
	for _, q := range o.reads {
		d.history(r, q)
	}
}

// history answers from the ring of a channel, or lets a broker be asked.
func (d *plainDoor) history(r *reader, q plain.Read) {
	q.Limit = min(q.Limit, longestPage)
	if len(q.Channels) == 1 && !q.Earliest && !bayeux.IsPattern(q.Channels[0]) {
		events, through, ok := d.hub.Replay(q.Channels[0], q.Since, q.Limit)
		if ok && (through >= q.Through || len(events) == q.Limit) {
			r.replayed(q.Token, plain.Page{Events: events, Through: through}, nil)
			return
		}
	}
	select {
	case d.replays.queue <- pageFor{r, q}:
	default:
		d.refused(channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
		r.replayed(q.Token, plain.Page{}, bayeux.LimitExceeded("replays"))
	}
}

// pageFor is the question of a reader of plain channels.
type pageFor struct {
	reader *reader
	plain.Read
}

// ask implements [question].
func (p pageFor) ask(ctx context.Context, reader Reader) {
	slot := uint32(p.Slot)
	request := &brokerv1.ReadRequest{Slot: &slot, Channels: p.Channels, Limit: uint32(p.Limit)}
	if !p.Earliest {
		request.Since = &p.Since
	}
	response, err := reader.ReadAtLeast(ctx, request, max(p.Since, p.Through))
	if err != nil {
		p.reader.replayed(p.Token, plain.Page{}, bayeux.Unavailable())
		return
	}
	page := plain.Page{Through: response.GetThrough(), Lost: response.GetLostChannels()}
	if response.GetLost() {
		page.Lost = p.Channels
	}
	for _, e := range response.GetEntries() {
		page.Events = append(page.Events, newEvent(p.Slot, e))
	}
	p.reader.replayed(p.Token, page, nil)
}
