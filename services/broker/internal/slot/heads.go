package slot

import "github.com/comet-push/comet/services/broker/internal/history"

// heads are the last offsets of channels in a tail. They are not kept until
// somebody asks and the tail is long, which it rarely is.
type heads map[string]uint64

// shortTail is how many entries are looked through instead.
const shortTail = 32

// of returns the last offset of a channel in the tail, 0 if it has none there.
func (h *heads) of(channel string, tail []*history.Entry) uint64 {
	if *h == nil && len(tail) <= shortTail {
		for i := len(tail) - 1; i >= 0; i-- {
			if tail[i].Channel == channel {
				return tail[i].Offset
			}
		}
		return 0
	}
	if *h == nil {
		*h = make(heads)
		for _, e := range tail {
			h.push(e)
		}
	}
	return (*h)[channel]
}

// push takes the next entry of the tail.
func (h heads) push(e *history.Entry) {
	if h != nil {
		h[e.Channel] = e.Offset
	}
}

// pop forgets the first entry of the tail.
func (h heads) pop(e *history.Entry) {
	if h != nil && h[e.Channel] == e.Offset {
		delete(h, e.Channel)
	}
}
