package plain

import (
	"slices"
	"time"

	"github.com/comet-push/comet/bayeux"
	"github.com/comet-push/comet/internal/shard"
	"github.com/comet-push/comet/services/edge/internal/event"
)

// start is what a reader has until everything is sent as it is pushed. Slots
// that are behind are read, some at once, and sent one after the other; what is
// pushed of them is not kept, but read, so nothing is buffered, comes twice or
// out of order.
type start struct {
	req     Request
	joining uint64 // a bit for each interest that is not answered
	// slots are those that are behind, in order; until all interests are joined,
	// those of which something is known.
	slots []past

	token uint64     // of the last read
	asked []SlotRead // it, while it is not answered
	// What the next read asks for: of how many slots, and for a stream how many
	// entries of each. It is found out what there is room for.
	ahead, limit int
}

// past is a slot whose history is read.
type past struct {
	slot     shard.Slot
	at       uint64 // it has been read up to here
	target   uint64 // what comes after is pushed
	earliest bool   // nothing has been read, and all that is retained is wanted
}

func (s *start) find(slot shard.Slot) (int, bool) {
	return slices.BinarySearchFunc(s.slots, slot, func(p past, slot shard.Slot) int {
		return int(p.slot) - int(slot)
	})
}

// raise notes that entries up to a position may not be pushed.
func (s *start) raise(to shard.Position) {
	i, known := s.find(to.Slot)
	if !known {
		s.slots = slices.Insert(s.slots, i, past{slot: to.Slot})
	}
	s.slots[i].target = max(s.slots[i].target, to.Offset)
}

// withhold reports whether what is pushed at a position is read instead, and
// sees to that.
func (s *start) withhold(at shard.Position) bool {
	if _, behind := s.find(at.Slot); s.joining == 0 && !behind {
		return false
	}
	s.raise(at)
	return true
}

// fallBack has an entry of a slot that was not behind read like the others:
// an answer may have no room for it.
func (s *start) fallBack(at shard.Position) {
	i, _ := s.find(at.Slot)
	s.slots = slices.Insert(s.slots, i, past{slot: at.Slot, at: at.Offset - 1, target: at.Offset})
}

// word is the cursor of a reader for which no position stands yet.
func (s *start) word() string {
	switch {
	case s.joining == 0:
		if slices.ContainsFunc(s.slots, func(p past) bool { return p.earliest }) {
			return shard.Earliest
		}
		return ""
	case s.req.Since.Earliest:
		return shard.Earliest
	case s.req.Since.At == nil:
		return shard.Latest
	}
	return shard.FormatCursor(s.req.Channels, s.req.Since.At)
}

// place puts every slot where it starts, now that it is known what is pushed.
func (r *Reader) place() {
	s := r.start
	since, published := s.req.Since, s.req.Published
	var behind []past
	for _, slot := range shard.SlotsOf(s.req.Channels) {
		end := uint64(0)
		if i, known := s.find(slot); known {
			end = s.slots[i].target
		}
		from, target := end, end
		if since.At != nil {
			from = since.At[slot]
		}
		if published.Offset > 0 && slot == published.Slot {
			target = max(end, published.Offset)
			if since.At == nil {
				from = min(end, published.Offset-1)
			}
		}
		if from == target && !since.Earliest {
			r.live(shard.Position{Slot: slot, Offset: from})
			continue
		}
		p := past{slot: slot, at: from, target: target}
		if since.Earliest {
			p.at, p.earliest = 0, true
		}
		behind = append(behind, p)
	}
	s.slots = behind
}

// ask asks for the next page of some slots.
func (r *Reader) ask(slots []past, limit int, out *Effects) {
	s := r.start
	s.token++
	s.asked = make([]SlotRead, 0, len(slots))
	for _, p := range slots {
		s.asked = append(s.asked, SlotRead{
			Slot: p.slot, Channels: r.channelsIn(p.slot),
			Since: p.at, Earliest: p.earliest, Through: max(p.at, p.target), Limit: limit,
		})
	}
	out.Reads = append(out.Reads, Read{Token: s.token, Slots: s.asked})
}

// next are the slots to be read next.
func (s *start) next() []past { return s.slots[:min(s.ahead, len(s.slots))] }

// unbegun are those of the slots of which nothing has been read, so that there
// is no cursor; at most so many.
func (s *start) unbegun(most int) (slots []past) {
	for _, p := range s.slots {
		if p.earliest && len(slots) < most {
			slots = append(slots, p)
		}
	}
	return slots
}

// channelsIn returns the channels that may have entries in a slot.
func (r *Reader) channelsIn(slot shard.Slot) []string {
	var channels []string
	for _, c := range r.channels() {
		if bayeux.IsPattern(c) || shard.Of(c) == slot {
			channels = append(channels, c)
		}
	}
	return channels
}

// Replayed answers a Read: a page for each slot, or for those in front of one
// for which there is err.
func (r *Reader) Replayed(now time.Time, token uint64, pages []Page, err *bayeux.Error, out *Effects) {
	s, at := r.start, r.since(now)
	if r.ended != "" || s == nil || s.asked == nil || s.token != token {
		return
	}
	asked := s.asked
	s.asked = nil
	switch {
	case err != nil && r.batch != nil:
		r.refuse(asked[len(pages)].Channels[0], err, out)
		return
	case r.batch == nil && (r.blocked || r.queue != nil):
		pages, s.ahead = nil, 1 // they are read again when there is room
	}
	whole := r.absorbAll(at, asked, pages, out)
	if err != nil && whole == len(pages) {
		r.end(at, Failed, 0, out)
		return
	}
	r.proceed(at, out)
}

// absorbAll sends pages, or adds them to the answer, as far as there is room,
// and returns how many went whole in front of the first that did not.
func (r *Reader) absorbAll(at time.Duration, asked []SlotRead, pages []Page, out *Effects) (whole int) {
	s, before, part := r.start, r.bytes, 0
	whole = len(pages)
	for n := range pages {
		i, _ := s.find(asked[n].Slot)
		p, room := &s.slots[i], r.cfg.Burst-(r.bytes-before)
		full := room <= 0
		if r.batch != nil {
			full = r.batch.full() && !p.earliest // it has to know where all slots begin
		}
		if full {
			whole = min(whole, n)
			continue
		}
		taken, cut := r.absorb(at, p, &pages[n], room, out)
		if cut && n < whole {
			whole, part = n, taken
		}
		if p.at >= p.target {
			r.live(shard.Position{Slot: p.slot, Offset: p.at})
			s.slots = slices.Delete(s.slots, i, i+1)
		}
	}
	switch {
	case whole == len(asked):
		s.grow(r.cfg)
	case whole < len(pages):
		s.shrink(whole, part)
	}
	return whole
}

// grow has the next read ask for more: of each slot, then of slots.
func (s *start) grow(cfg *Config) {
	if s.limit < cfg.Page {
		s.limit = min(2*s.limit, cfg.Page)
		return
	}
	s.ahead = min(2*s.ahead, cfg.Ahead)
}

// shrink has the next read ask for what there was room for: some whole pages,
// or else so many entries of one.
func (s *start) shrink(pages, entries int) {
	if s.ahead = pages; pages == 0 {
		s.ahead, s.limit = 1, max(1, entries)
	}
}

// absorb sends a page, or adds it to the answer, as far as there is room: on a
// stream that is for so many bytes. It returns how many events it took.
func (r *Reader) absorb(at time.Duration, p *past, page *Page, room int, out *Effects) (taken int, cut bool) {
	before, first := p.at, p.earliest
	r.begin(at, p, page)
	sent := r.bytes
	for _, e := range page.Events {
		if e.At.Offset <= p.at {
			continue
		}
		if r.batch != nil {
			cut = !r.batch.take(e)
		} else if cut = r.bytes-sent >= room; !cut {
			r.play(at, e, out)
		}
		if cut {
			return taken, true
		}
		p.at = e.At.Offset
		taken++
	}
	p.at = max(p.at, page.Through)
	if p.at == before && !first && p.at < p.target { // asking again would spin
		p.at = p.target
		r.miss(at, r.channelsIn(p.slot))
	}
	return taken, false
}

// begin takes notice of where a page begins.
func (r *Reader) begin(at time.Duration, p *past, page *Page) {
	if p.earliest {
		p.earliest = false
		p.at = page.Through
		if len(page.Events) > 0 {
			p.at = page.Events[0].At.Offset - 1
		}
	}
	if len(page.Lost) == 0 {
		return
	}
	if page.Through <= p.at { // that was no position at all
		page.Through = min(p.target, page.Through)
		p.at = page.Through
	}
	r.miss(at, page.Lost)
}

// miss notes that history of channels is gone.
func (r *Reader) miss(at time.Duration, channels []string) {
	if r.batch != nil {
		r.batch.lose(channels)
		return
	}
	r.lose(at, channels)
}

// play sends an event of history.
func (r *Reader) play(at time.Duration, e *event.Event, out *Effects) {
	if r.many == nil {
		r.tell(at, out) // for the event's position is a cursor
	}
	r.emitEvent(at, e, out)
}
