package hub

import "github.com/comet-push/comet/services/broker/internal/history"

// interest is a channel or pattern a follower wants.
type interest struct {
	// static
	channel  string
	follower *Follower
	place    *place // of a literal channel; nil: a pattern

	// of the stream's goroutine
	id    uint64
	start uint64 // a pull sends nothing of a literal channel up to here
	lost  bool   // found incomplete, in the middle of check

	at int // index in its fans, guarded as they are
}

// fans are the interests of one name.
type fans struct{ interests []*interest }

func (f *fans) add(in *interest) {
	in.at = len(f.interests)
	f.interests = append(f.interests, in)
}

func (f *fans) remove(in *interest) (empty bool) {
	last := len(f.interests) - 1
	moved := f.interests[last]
	f.interests[in.at], moved.at = moved, in.at
	f.interests[last] = nil
	f.interests = f.interests[:last]
	return last == 0
}

// place is where a follower is in a slot. Guarded by the slot's lock.
type place struct {
	follower *Follower // static
	slot     *Slot     // static

	pushed bool
	sent   uint64 // nothing up to here is sent again; pulled: complete through
	marked uint64 // the last mark, or the position that stood for one

	fresh    bool                   // pulled, and not a pull since Open
	reset    bool                   // the next pull resyncs every interest
	seen     uint64                 // history's drop clock at the last check
	literals map[*interest]struct{} // of this follower in this slot
}

// push sends a committed entry that an interest matches, or turns the place to
// pulled.
func (p *place) push(e *history.Entry) {
	if !p.pushed || e.Offset <= p.sent {
		return
	}
	if p.follower.send(p.slot.number, e) {
		p.sent = e.Offset
		return
	}
	p.lag(e.Offset - 1)
}

func (p *place) lag(through uint64) {
	p.pushed = false
	p.sent = through
	p.follower.frame(Lag{p.slot.number, through})
}

func (p *place) resume(through uint64) {
	p.pushed = true
	p.sent = through
	p.marked = through
	p.follower.frame(Resumed{p.slot.number, through})
}
