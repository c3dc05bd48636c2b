package slot

import (
	"slices"

	"github.com/comet-push/comet/services/broker/internal/history"
)

// heads are the last offsets of channels in a tail. They are not kept until
// somebody asks and the tail is long, which it rarely is.
type heads struct {
	offsets map[string]uint64 // by channel; nil: not kept
}

// shortTail is how many entries are looked through instead.
const shortTail = 32

// of returns the last offset of a channel in the tail, 0 if it has none there.
func (h *heads) of(channel string, tail []*history.Entry) uint64 {
	if h.offsets == nil && len(tail) <= shortTail {
		for _, e := range slices.Backward(tail) {
			if e.Channel == channel {
				return e.Offset
			}
		}
		return 0
	}
	if h.offsets == nil {
		h.offsets = make(map[string]uint64)
		for _, e := range tail {
			h.push(e)
		}
	}
	return h.offsets[channel]
}

// push takes the next entry of the tail.
func (h *heads) push(e *history.Entry) {
	if h.offsets != nil {
		h.offsets[e.Channel] = e.Offset
	}
}

// pop forgets the first entry of the tail.
func (h *heads) pop(e *history.Entry) {
	if h.offsets != nil && h.offsets[e.Channel] == e.Offset {
		delete(h.offsets, e.Channel)
	}
}

// reset says that the tail is another one.
func (h *heads) reset() { h.offsets = nil }
