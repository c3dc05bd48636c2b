package edge

import (
	"context"
	"slices"
	"sync/atomic"
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

// history answers from the rings of channels, and lets brokers be asked for the
// rest.
func (d *plainDoor) history(r *reader, q plain.Read) {
	p := &pagesFor{reader: r, Read: q, pages: make([]plain.Page, len(q.Slots)), read: make([]bool, len(q.Slots))}
	for n := range q.Slots {
		if p.pages[n], p.read[n] = d.recent(&q.Slots[n]); !p.read[n] {
			p.missing = append(p.missing, n)
		}
	}
	if len(p.missing) == 0 {
		r.replayed(q.Token, p.pages, nil)
		return
	}
	p.unanswered.Store(int32(len(p.missing)))
	select {
	case d.replays.queue <- p:
	default:
		d.refused(channelv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
		r.replayed(q.Token, nil, bayeux.LimitExceeded("replays"))
	}
}

// recent answers from the ring of a channel, if that has all.
func (d *plainDoor) recent(q *plain.SlotRead) (page plain.Page, ok bool) {
	if len(q.Channels) > 1 || q.Earliest || bayeux.IsPattern(q.Channels[0]) {
		return page, false
	}
	page.Events, page.Through, ok = d.hub.Replay(q.Channels[0], q.Since, q.Limit)
	return page, ok && (page.Through >= q.Through || len(page.Events) == q.Limit)
}

// pagesFor is the question of a reader of plain channels.
type pagesFor struct {
	plain.Read

	reader     *reader
	pages      []plain.Page // one for each slot
	read       []bool       // likewise: it is known
	missing    []int        // that brokers are asked for
	unanswered atomic.Int32 // of these
}

// parts implements [question].
func (p *pagesFor) parts() int { return len(p.missing) }

// ask implements [question].
func (p *pagesFor) ask(ctx context.Context, reader Reader, part int) {
	n := p.missing[part]
	page, err := pageOf(ctx, reader, &p.Slots[n])
	p.pages[n], p.read[n] = page, err == nil
	if p.unanswered.Add(-1) > 0 {
		return
	}
	if good := slices.Index(p.read, false); good >= 0 {
		p.reader.replayed(p.Token, p.pages[:good], bayeux.Unavailable())
		return
	}
	p.reader.replayed(p.Token, p.pages, nil)
}

// pageOf reads a page at a broker. Through is the broker's, also where since is
// no position of its log: there is nothing after since then.
func pageOf(ctx context.Context, reader Reader, q *plain.SlotRead) (page plain.Page, err error) {
	slot := uint32(q.Slot)
	request := &brokerv1.ReadRequest{Slot: &slot, Channels: q.Channels, Limit: uint32(q.Limit)}
	if !q.Earliest {
		request.Since = &q.Since
	}
	response, err := reader.ReadAtLeast(ctx, request, max(q.Since, q.Through))
	if err != nil {
		return page, err
	}
	page = plain.Page{Through: response.GetThrough(), Lost: response.GetLostChannels()}
	if response.GetLost() {
		page.Lost = q.Channels
	}
	for _, e := range response.GetEntries() {
		page.Events = append(page.Events, newEvent(q.Slot, e))
	}
	return page, nil
}
