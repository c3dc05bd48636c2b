package edge

import (
	"slices"
	"sync"
	"time"

	"github.com/comet-push/comet/bayeux"
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

// history answers from the rings of channels, and has brokers asked for the
// rest.
func (d *plainDoor) history(r *reader, q plain.Read) {
	p := &pagesFor{reader: r, Read: q, pages: make([]plain.Page, len(q.Slots)), read: make([]bool, len(q.Slots))}
	var missing []int
	for n := range q.Slots {
		if p.pages[n], p.read[n] = d.recent(&q.Slots[n]); !p.read[n] {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		r.replayed(q.Token, p.pages, nil)
		return
	}
	p.unanswered = len(missing)
	for _, n := range missing {
		if !d.reads.ask(pageOf(&q.Slots[n]), func(a answer) { p.answer(n, a) }) {
			p.answer(n, answer{err: d.noRoomToRead()})
		}
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

// pagesFor is what a reader of plain channels waits for.
type pagesFor struct {
	plain.Read

	reader *reader

	mu         sync.Mutex
	pages      []plain.Page // one for each slot
	read       []bool       // likewise: it is known
	err        *bayeux.Error
	unanswered int
}

// answer takes what was found of a slot; the last one answers the reader.
func (p *pagesFor) answer(n int, a answer) {
	if !p.take(n, a) {
		return
	}
	if p.err != nil { // as far as all is known
		p.reader.replayed(p.Token, p.pages[:slices.Index(p.read, false)], p.err)
		return
	}
	p.reader.replayed(p.Token, p.pages, nil)
}

// take reports whether nothing is missing any more.
func (p *pagesFor) take(n int, a answer) (last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unanswered--
	if a.err != nil {
		p.err = a.err
	} else {
		p.pages[n], p.read[n] = a.pageOf(&p.Slots[n]), true
	}
	return p.unanswered == 0
}

func pageOf(q *plain.SlotRead) page {
	return page{
		slot: q.Slot, channels: q.Channels,
		since: q.Since, earliest: q.Earliest, limit: q.Limit, known: max(q.Since, q.Through),
	}
}

// pageOf is the answer as a reader takes it. Through is the broker's, also where
// since is no position of its log: there is nothing after since then.
func (a answer) pageOf(q *plain.SlotRead) plain.Page {
	found := plain.Page{Events: a.events, Through: a.GetThrough(), Lost: a.GetLostChannels()}
	if a.GetLost() {
		found.Lost = q.Channels
	}
	return found
}
