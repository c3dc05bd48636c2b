package history

import (
	"encoding/binary"
	"errors"
	"math"
)

// ErrEncoding says that bytes do not begin with an entry.
var ErrEncoding = errors.New("not an encoded entry")

// AppendTo appends the entry's encoding:
//
//	offset, offset-prev (0 without prev), term, time (uvarints)
//	lengths of channel, data, ext, members, session, id, key (uvarints)
//	these, one after the other
func (e *Entry) AppendTo(b []byte) []byte {
	back := uint64(0)
	if e.Prev > 0 {
		back = e.Offset - e.Prev
	}
	b = binary.AppendUvarint(b, e.Offset)
	b = binary.AppendUvarint(b, back)
	b = binary.AppendUvarint(b, e.Term)
	b = binary.AppendUvarint(b, uint64(e.Time))
	for _, n := range [...]int{
		len(e.Channel), len(e.Data), len(e.Ext), len(e.Members), len(e.Session), len(e.ID), len(e.Key),
	} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = append(b, e.Channel...)
	b = append(b, e.Data...)
	b = append(b, e.Ext...)
	b = append(b, e.Members...)
	b = append(b, e.Session...)
	b = append(b, e.ID...)
	return append(b, e.Key...)
}

// header is an entry's encoding up to its bytes.
type header struct {
	offset, prev, term uint64
	time               int64
	lengths            [7]uint64 // channel, data, ext, members, session, id, key
	size               int       // of the whole encoding
	start              int       // of the channel
}

func decodeHeader(b []byte) (h header, err error) {
	var numbers [11]uint64
	for i := range numbers {
		n, size := binary.Uvarint(b[h.start:])
		if size <= 0 {
			return header{}, ErrEncoding
		}
		numbers[i] = n
		h.start += size
	}
	h.size = h.start
	copy(h.lengths[:], numbers[4:])
	for _, n := range h.lengths {
		if n > uint64(len(b)-h.size) {
			return header{}, ErrEncoding
		}
		h.size += int(n)
	}
	h.offset, h.term = numbers[0], numbers[2]
	if back := numbers[1]; back > 0 {
		h.prev = h.offset - back
	}
	if numbers[1] > h.offset || numbers[3] > math.MaxInt64 {
		return header{}, ErrEncoding
	}
	h.time = int64(numbers[3])
	return h, nil
}

// Decode reads the entry that bytes begin with, and how many of them it takes.
// Its data, ext and members are slices of them.
func Decode(b []byte) (e Entry, size int, err error) {
	h, err := decodeHeader(b)
	if err != nil {
		return Entry{}, 0, err
	}
	rest := b[h.start:h.size]
	next := func(i int) []byte {
		part := rest[:h.lengths[i]:h.lengths[i]]
		rest = rest[h.lengths[i]:]
		if len(part) == 0 {
			return nil
		}
		return part
	}
	e = Entry{Offset: h.offset, Prev: h.prev, Term: h.term, Time: h.time}
	e.Channel = string(next(0))
	e.Data, e.Ext, e.Members = next(1), next(2), next(3)
	e.Session, e.ID, e.Key = string(next(4)), string(next(5)), string(next(6))
	return e, h.size, nil
}
